import json
import math
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from bitladder.cli import evaluating
from bitladder.cli.main import main
from bitladder.cli.rungs import Model, measure_models
from bitladder.data import Synthetic
from bitladder.errors import RunError
from bitladder.quantization import Call
from bitladder.runs import Results, Rung, read_json, sha256
from bitladder.runs.documents.publish import FOLDER
from bitladder.tasks import Classification

# What our libraries say and no user of a command sees: it goes into the run's log.
pytestmark = pytest.mark.filterwarnings("ignore")

FLOAT = Rung(metrics={"test/accuracy": 0.75}, size_bytes=2000, latency_ms={"batch_1": 1.0})
INT8 = replace(FLOAT, size_bytes=1000, artifact="model_int8.pt2")


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Rung]:
    """Gives these rungs instead of compiling any, and refuses to load an artifact."""
    rungs = {"float": FLOAT}

    def load(path: Path) -> None:
        raise AssertionError(f"{path} was loaded")

    monkeypatch.setattr(evaluating, "_measure", lambda *_: rungs)
    monkeypatch.setattr(evaluating, "load_package", load)
    return rungs


@pytest.fixture
def recorded(copied: Path) -> Callable[..., Path]:
    """The copied run with these rungs in its results."""

    def record(**rungs: Rung) -> Path:
        results = Results.read(copied / "results.json")
        replace(results, rungs=rungs).write(copied / "results.json")
        return copied

    return record


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bitladder: error: ")
    assert error.count("\n") == 1, error
    return error


def test_bad_test_data_have_no_score(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(_: Synthetic, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        x, y = batch
        return [x * torch.inf, y]

    monkeypatch.setattr(Synthetic, "on_before_batch_transfer", spoil)
    assert main(["evaluate", f"run={copied}"]) == 1
    assert "the test data holds NaN or infinity (batch 0)" in capsys.readouterr().err


def test_a_model_that_gives_nan_has_no_score(copied: Path) -> None:
    data = Synthetic(batch_size=16, seed=1)
    data.setup("test")
    net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(data.input_shape), data.num_classes))
    task = Classification(net, torch.optim.SGD, None, num_classes=data.num_classes)

    def run(x: Tensor) -> Tensor:
        return torch.full((len(x), data.num_classes), torch.nan)

    example = Call((torch.ones(1, *data.input_shape),), {})
    model = Model(copied / "config.yaml", run, shipped=False)
    with pytest.raises(RunError, match=r"the int8 model gives NaN for test sample 0$"):
        measure_models({"int8": model}, example, net, task, data)


def test_both_rungs_are_as_recorded_in_a_copy_elsewhere(
    quantized: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = shutil.copytree(quantized[0], tmp_path / "copy")
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert main(["evaluate", f"run={directory}", "trust_artifact=true", "strict=true"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(directory / "evaluation.json")
    assert "not measured" not in printed
    evaluation = json.loads((directory / "evaluation.json").read_text())
    assert list(evaluation["rungs"]) == ["float", "int8"]
    assert evaluation["same_data"] is True
    assert evaluation["not_measured"] == {}
    for name, rung in evaluation["rungs"].items():
        assert rung["metrics"] == pytest.approx(evaluation["recorded"][name]["metrics"], abs=1e-6)
        assert rung["latency_ms"].keys() == {"batch_1", "batch_32"}
    size = (directory / "model_int8.pt2").stat().st_size
    assert evaluation["rungs"]["int8"]["size_bytes"] == size
    assert {path: path.read_bytes() for path in before} == before
    assert len([path for path in directory.rglob("*") if path.is_file()]) == len(before) + 1


def test_an_artifact_is_not_run_without_trust(
    recorded: Callable[..., Path], unmeasured: dict[str, Rung], capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(float=FLOAT, int8=INT8)
    (run / "model_int8.pt2").write_bytes(b"x" * 4321)
    assert main(["evaluate", f"run={run}"]) == 0
    printed = capsys.readouterr().out
    assert "int8: not measured: model_int8.pt2 is native code" in printed
    assert "write trust_artifact=true" in printed
    assert "4.32 kB" in printed
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert list(evaluation["rungs"]) == ["float"]
    assert "native code" in evaluation["not_measured"]["int8"]


def test_a_missing_artifact_is_listed(
    recorded: Callable[..., Path], unmeasured: dict[str, Rung], capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(float=FLOAT, int8=INT8)
    assert main(["evaluate", f"run={run}", "trust_artifact=true"]) == 0
    assert "int8: not measured: there is no model_int8.pt2" in capsys.readouterr().out


def test_a_damaged_artifact_is_listed(
    recorded: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(evaluating, "_measure", lambda *_: {"float": FLOAT})
    run = recorded(float=FLOAT, int8=INT8)
    (run / "model_int8.pt2").write_bytes(b"no package")
    assert main(["evaluate", f"run={run}", "trust_artifact=true"]) == 0
    says = "model_int8.pt2 cannot be loaded: file is not a zip file"
    assert f"int8: not measured: {says}\n" in capsys.readouterr().out
    assert main(["evaluate", f"run={run}", "trust_artifact=true", "strict=true"]) == 1
    assert capsys.readouterr().err == f"bitladder: the run failed: int8: {says}\n"


@pytest.mark.parametrize("where", ["results", "quantization"])
def test_an_artifact_that_was_changed_is_said_and_never_loaded(
    quantized: tuple[Path, str],
    unmeasured: dict[str, Rung],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    run = Path(shutil.copytree(quantized[0], tmp_path / "copy"))
    if where == "quantization":  # as a run of an earlier version, whose results have no hashes
        replace(Results.read(run / "results.json"), artifacts=[]).write(run / "results.json")
    with zipfile.ZipFile(run / "model_int8.pt2", "a") as archive:
        archive.writestr("more", b"")
    assert main(["evaluate", f"run={run}", "trust_artifact=true"]) == 0
    says = "int8: not measured: model_int8.pt2 was changed: the run recorded another sha256"
    assert says in capsys.readouterr().out
    assert (
        "was changed" in json.loads((run / "evaluation.json").read_text())["not_measured"]["int8"]
    )


def test_an_edited_configuration_is_said(
    recorded: Callable[..., Path], unmeasured: dict[str, Rung], capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(float=FLOAT)
    assert main(["evaluate", f"run={run}"]) == 0
    assert "not what the run wrote" not in capsys.readouterr().out
    with (run / "config.yaml").open("a") as file:
        file.write("# harmless\n")
    assert main(["evaluate", f"run={run}"]) == 0
    assert "config.yaml is not what the run wrote" in capsys.readouterr().out


def closed(schema: Any) -> Any:
    """The schema that also refuses keys that it does not describe."""
    if isinstance(schema, list):
        return [closed(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema else {}
    return more | {key: closed(value) for key, value in schema.items()}


def test_what_a_run_and_its_evaluation_wrote_has_the_published_forms(
    quantized: tuple[Path, str], unmeasured: dict[str, Rung], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(quantized[0], tmp_path / "copy"))
    assert main(["evaluate", f"run={run}"]) == 0
    for name in ("results", "manifest", "quantization", "evaluation"):
        schema = read_json(FOLDER / f"{name}.schema.json")
        jsonschema.Draft202012Validator(closed(schema)).validate(read_json(run / f"{name}.json"))
    results = Results.read(run / "results.json")
    files = {path.name: path for path in run.glob("*.pt2")}
    assert {x.name: (x.size_bytes, x.sha256) for x in results.artifacts} == {
        name: (path.stat().st_size, sha256(path)) for name, path in files.items()
    }
    assert results.rungs["int8"].sha256 == sha256(files["model_int8.pt2"])
    assert results.rungs["float"].sha256 == sha256(files["model_float.pt2"])


@pytest.mark.parametrize("artifact", ["../model.pt2", "/bin/true", "link.pt2", "a\0b"])
def test_an_artifact_outside_the_run_is_refused(
    recorded: Callable[..., Path],
    unmeasured: dict[str, Rung],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    artifact: str,
) -> None:
    run = recorded(float=FLOAT, int8=replace(INT8, artifact=artifact))
    (tmp_path / "model.pt2").write_bytes(b"theirs")
    (run / "link.pt2").symlink_to(tmp_path / "model.pt2")
    assert "leads out of the run directory" in refused(capsys, f"run={run}", "trust_artifact=true")


def test_another_accuracy_is_said_and_with_strict_a_failure(
    recorded: Callable[..., Path], unmeasured: dict[str, Rung], capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(float=replace(FLOAT, metrics={"test/accuracy": 0.5}))
    says = "float: the accuracy is +0.250000 against what the run recorded"
    assert main(["evaluate", f"run={run}"]) == 0
    assert says in capsys.readouterr().out
    assert main(["evaluate", f"run={run}", "strict=true"]) == 1
    assert capsys.readouterr().err == f"bitladder: the run failed: {says}\n"
    rounded = {"test/accuracy": 0.75 + 1e-9}
    recorded(float=replace(FLOAT, metrics=rounded))
    assert main(["evaluate", f"run={run}", "strict=true"]) == 0


def test_other_data_are_said(
    recorded: Callable[..., Path], unmeasured: dict[str, Rung], capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(float=FLOAT)
    assert main(["evaluate", f"run={run}", "data.batch_size=32"]) == 0
    assert "the data are not those" not in capsys.readouterr().out
    assert main(["evaluate", f"run={run}", "data.seed=2"]) == 0
    assert "the data are not those" in capsys.readouterr().out
    assert json.loads((run / "evaluation.json").read_text())["same_data"] is False


def test_a_run_that_cannot_be_written_needs_another_place(
    recorded: Callable[..., Path],
    unmeasured: dict[str, Rung],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = recorded(float=FLOAT)
    monkeypatch.setattr(evaluating.os, "access", lambda path, mode: path != run)
    assert "write output=FILE" in refused(capsys, f"run={run}")
    assert main(["evaluate", f"run={run}", f"output={tmp_path / 'out.json'}"]) == 0
    assert not (run / "evaluation.json").exists()
    assert list(json.loads((tmp_path / "out.json").read_text())["rungs"]) == ["float"]
    assert "cannot be written" in refused(capsys, f"run={run}", f"output={tmp_path}/no/out.json")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("strct=true", "did you mean strict?"),
        ("strict=1", "strict=1"),
        ("quantization=ptq", "there is no key quantization"),
        ("trainer=gpu", "there is no key trainer"),
        ("data.batch_sizes=3", "did you mean batch_size?"),
        ("checkpoint=../../x", "write the name of a file in"),
    ],
)
def test_what_cannot_be_is_one_line(
    copied: Path, capsys: pytest.CaptureFixture[str], argument: str, says: str
) -> None:
    assert says in refused(capsys, f"run={copied}", argument)
    assert not (copied / "evaluation.json").exists()


def test_a_run_that_names_code_executes_nothing(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = OmegaConf.load(copied / "config.yaml")
    config.model = {"_target_": "os.system", "command": f"touch {tmp_path / 'executed'}"}
    OmegaConf.save(config, copied / "config.yaml")
    assert "write allow=[os]" in refused(capsys, f"run={copied}")
    assert not (tmp_path / "executed").exists()
