"""Run directories with random damage: a right result, or one line."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitladder.cli import evaluating
from bitladder.cli.checkpoint import load_weights
from bitladder.cli.main import main
from bitladder.errors import UserError
from bitladder.models import MLP
from bitladder.runs import RunRecord

pytestmark = pytest.mark.filterwarnings("ignore")

OLD = Path(__file__).parents[1] / "runs" / "version_1"
FEW = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["../x", "/etc/passwd", "a\0b", "${oc.env:HOME}", "???", "os.system"]),
    st.sampled_from([[], {}, [[]], {"": None}, {"_target_": "os.system"}, [1, None]]),
)


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a tree of dicts and lists, as its holder and key."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from nodes(value[key])


def damage(path: Path, data: st.DataObject) -> None:
    """Change the file's values, or its bytes."""
    if data.draw(st.booleans(), label="values"):
        value = yaml.safe_load(path.read_text())  # JSON is YAML
        holder, key = data.draw(st.sampled_from(list(nodes(value))))
        holder[key] = data.draw(ODD)
        path.write_text(json.dumps(value))
    else:
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
        path.write_bytes(content)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "_measure", lambda *_: {})


@FEW
@given(
    data=st.data(),
    name=st.sampled_from(["config.yaml", "results.json", "manifest.json"]),
    trust=st.booleans(),
)
def test_a_command_takes_a_damaged_run_in_one_line(
    finished: Path, unmeasured: None, tmp_path: Path, data: st.DataObject, name: str, trust: bool
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / name, data)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as error:
        status = main(["evaluate", f"run={tmp_path}", f"trust_artifact={str(trust).lower()}"])
    said = error.getvalue()
    assert status in (0, 1, 2)
    assert said.count("\n") == bool(status), said


@settings(FEW, max_examples=100)
@given(
    data=st.data(),
    name=st.sampled_from(
        ["config.yaml", "results.json", "manifest.json", "quantization.json", "metrics.csv"]
    ),
)
def test_a_damaged_run_is_read_with_at_most_a_problem(
    tmp_path: Path, data: st.DataObject, name: str
) -> None:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / name, data) if name != "metrics.csv" else flip(tmp_path / name, data)
    problem = RunRecord.read(tmp_path).problem
    assert problem is None or "\n" not in problem


@settings(FEW, max_examples=100)
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_or_gives_the_weights_that_were_saved(
    tmp_path: Path, data: st.DataObject
) -> None:
    torch.manual_seed(0)
    path, model = tmp_path / "x.ckpt", MLP((1, 2, 2), 2, hidden=[3])
    saved = {name: x.clone() for name, x in model.state_dict().items()}
    torch.save({"state_dict": saved}, path)
    flip(path, data)
    with suppress(UserError):
        load_weights(str(path), model)
    for name, x in model.state_dict().items():
        assert torch.equal(x, saved[name]), name


def flip(path: Path, data: st.DataObject) -> None:
    """Change a bit, or cut the file there."""
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content[: bit // 8] if data.draw(st.booleans(), label="cut") else content)
