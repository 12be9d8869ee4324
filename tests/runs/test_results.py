import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.errors import UserError
from bitladder.runs import ArtifactFile, Results, Rung

FLOATS = st.floats(width=64)
SIZES = st.integers(0, 2**63 - 1)
RUNGS = st.builds(
    Rung,
    metrics=st.dictionaries(st.text(), FLOATS, max_size=3),
    size_bytes=SIZES,
    latency_ms=st.dictionaries(st.sampled_from(["batch_1", "batch_32"]), FLOATS),
    artifact=st.none() | st.text(),
    sha256=st.none() | st.text(),
)
RESULTS = st.builds(
    Results,
    status=st.sampled_from(["completed", "failed"]),
    experiment=st.none() | st.text(),
    precision=st.text(),
    quantization=st.text(),
    seed=st.integers(),
    effective_precision=st.dictionaries(
        st.text(), st.text() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
    ),
    rungs=st.dictionaries(st.sampled_from(["float", "int8"]), RUNGS),
    artifacts=st.lists(
        st.builds(ArtifactFile, name=st.text(), size_bytes=SIZES, sha256=st.text()),
        max_size=2,
    ),
    reason=st.none() | st.text(),
)


def whole() -> dict[str, Any]:
    rung = {
        "metrics": {"test/accuracy": 0.5},
        "size_bytes": 10,
        "latency_ms": {"batch_1": 1.0, "batch_32": 2.0},
    }
    return {
        "status": "completed",
        "experiment": "digits",
        "precision": "fp32",
        "quantization": "qat",
        "seed": 1,
        "effective_precision": {"name": "fp16", "loss_scale": 1024.0, "skipped_steps": 3},
        "rungs": {
            "float": rung,
            "int8": rung | {"artifact": "model_int8.pt2", "sha256": "ab" * 32},
        },
        "artifacts": [{"name": "model_int8.pt2", "size_bytes": 10, "sha256": "ab" * 32}],
        "schema_version": 2,
    }


def test_the_form_is_that_of_the_design() -> None:
    assert Results.from_json(whole()).to_json() == whole()


@given(results=RESULTS)
def test_results_come_back_from_disk_as_they_were(
    results: Results, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "results.json"
    results.write(path)
    # repr, because NaN is not equal to itself.
    assert repr(Results.read(path)) == repr(results)


def test_keys_that_a_later_version_added_are_ignored() -> None:
    assert Results.from_json(whole() | {"energy_joules": 3.0}) == Results.from_json(whole())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 99}, "schema_version 99, and this bitladder reads 1 or 2"),
        ({"schema_version": None}, "schema_version None"),
        ({"seed": "one"}, "not whole: seed: "),
        ({"status": "fine"}, "not whole: status: "),
        ({"rungs": {"int8": {}}}, r"not whole: rungs\.int8\.metrics: "),
        ({"seed": "1"}, "not whole: seed: "),
        ({"seed": True}, "not whole: seed: "),
        (
            {"rungs": {"f": {"metrics": {"a": True}, "size_bytes": 1, "latency_ms": {}}}},
            r"not whole: rungs\.f\.metrics\.a: ",
        ),
        (
            {"rungs": {"f": {"metrics": {"a": "0.9"}, "size_bytes": 1, "latency_ms": {}}}},
            r"not whole: rungs\.f\.metrics\.a: ",
        ),
        (
            {"artifacts": [{"name": "x.pt2", "size_bytes": -1, "sha256": ""}]},
            r"not whole: artifacts\.0\.size_bytes: ",
        ),
        (
            {"artifacts": [{"name": "x.pt2", "size_bytes": 10**400, "sha256": ""}]},
            r"not whole: artifacts\.0\.size_bytes: ",
        ),
    ],
)
def test_results_that_are_not_ours_are_named_in_one_line(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(whole() | change))
    with pytest.raises(UserError, match=reason) as got:
        Results.read(path)
    assert str(path) in str(got.value)
    assert "\n" not in str(got.value)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "../model.pt2", "folder", "gone.pt2"])
def test_a_model_that_is_no_file_of_the_run_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.pt2").touch()
    artifact = ArtifactFile(name=name, size_bytes=0, sha256="0" * 64)
    results = Results(
        status="completed",
        experiment=None,
        precision="fp32",
        quantization="none",
        seed=1,
        artifacts=[artifact],
    )
    assert results.damage(tmp_path / "folder") is not None
