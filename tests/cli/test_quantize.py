import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from bitladder.cli.compose import open_source
from bitladder.cli.main import main
from bitladder.cli.quantizing import Plan, plan

# What our libraries say and no user of a command sees: it goes into the run's log.
pytestmark = pytest.mark.filterwarnings("ignore")

Refused = Callable[..., str]


def planned(*arguments: str) -> Plan:
    with open_source() as source:
        return plan(source, arguments)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Runs the command, which must end with status 2 and one line and leave nothing; the line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        assert main(["quantize", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("bitladder: error: ")
        assert captured.err.count("\n") == 1, captured.err
        assert not (tmp_path / "runs").exists()
        return captured.err

    return run


def test_a_finished_run_becomes_a_run_with_both_rungs(
    finished: Path, quantized: tuple[Path, str]
) -> None:
    directory, printed = quantized
    assert printed.splitlines()[-1] == str(directory)
    assert "int8 / float" in printed
    assert directory.name.startswith("digits-fp32-ptq-s1-")
    # The images are kept only where the rungs answer differently.
    assert {path.name for path in directory.iterdir()} - {"samples.npz"} == {
        "checkpoints",
        "config.yaml",
        "histograms.json",
        "manifest.json",
        "metrics.csv",
        "model_float.pt2",
        "model_int8.pt2",
        "predictions.npz",
        "report.html",
        "quantization.json",
        "results.json",
        "train.log",
    }
    results = json.loads((directory / "results.json").read_text())
    assert (results["status"], results["quantization"]) == ("completed", "ptq")
    assert list(results["rungs"]) == ["float", "int8"]
    layers = json.loads((directory / "quantization.json").read_text())["layers"]
    assert [layer["kernel"] for layer in layers] == ["int8", "int8"]
    best = finished / "checkpoints" / "best.ckpt"
    source = json.loads((directory / "manifest.json").read_text())["source"]
    assert source == {
        "run": str(finished),
        "checkpoint": "checkpoints/best.ckpt",
        "checkpoint_sha256": hashlib.sha256(best.read_bytes()).hexdigest(),
    }
    assert (directory / "checkpoints" / "last.ckpt").read_bytes() == best.read_bytes()
    config = OmegaConf.load(directory / "config.yaml")
    assert config.quantization.calibration_batches == 3
    assert config.choices["quantization/observer"] == "histogram"
    assert config.model == OmegaConf.load(finished / "config.yaml").model


def test_the_source_is_only_read(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(copied)
    arguments = [f"run={copied}", f"paths.runs={tmp_path / 'runs'}", "quantization.skip=[layers.0]"]
    # Fails before anything is compiled, but after data, model and weights were read.
    assert main(["quantize", *arguments]) == 2
    assert "quantization.skip" in capsys.readouterr().err
    assert content(copied) == before


def test_the_run_gives_all_but_what_the_user_changes(copied: Path) -> None:
    made = planned(
        f"run={copied}",
        "quantization/observer=minmax",
        "quantization.skip=[head]",
        "data.batch_size=8",
        "paths.runs=here",
    )
    config = made.config
    assert made.checkpoint == copied / "checkpoints" / "best.ckpt"
    assert config.quantization["method"] == "ptq"
    assert config.quantization["observer"]["_target_"].endswith(".MinMaxObserver")
    assert config.quantization["skip"] == ["head"]
    assert (config.data["batch_size"], config.data["num_samples"]) == (8, 160)
    assert (config.model["hidden"], config.paths["runs"]) == ([16], "here")
    assert config.choices["model"] == "mlp"
    assert planned(f"run={copied}", "quantization=dynamic").config.quantization_name == "dynamic"
    last = planned(f"run={copied}", "checkpoint=last.ckpt").checkpoint
    assert last == copied / "checkpoints" / "last.ckpt"
    (copied / "checkpoints" / "best.ckpt").unlink()
    assert planned(f"run={copied}").checkpoint == last


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        (
            "quantization=qat",
            "needs a training: write bitladder train quantization=qat checkpoint=",
        ),
        ("quantization=none", "leaves nothing to do: write quantization=ptq|dynamic"),
        ("quantization=ptq,dynamic", "several values"),
        ("quantization=ptqq", "did you mean quantization=ptq?"),
        ("quantization.skp=[head]", "did you mean skip?"),
        ("quantization.skip=[haed]", "matches no layer"),
        ("quantization.target=nett", "is no submodule"),
        ("quantization.calibration_batches=0", "calibration_batches=0"),
        ("quantization/observer=minmx", "did you mean quantization/observer=minmax?"),
        ("calibration_batches=3", "did you mean quantization.calibration_batches?"),
        ("data.batch_sizes=3", "did you mean batch_size?"),
        ("data=digits", "write data.KEY=VALUE"),
        ("paths.rnus=x", "did you mean runs?"),
        ("checkpiont=x", "did you mean checkpoint?"),
        ("trainer.max_epochs=3", "there is no key trainer.max_epochs"),
        ("checkpoint=other.ckpt", "has no other.ckpt: there is best.ckpt, last.ckpt"),
        ("checkpoint=../config.yaml", "checkpoint=../config.yaml: write the name of a file in"),
        ("allow=3", "allow=3"),
        ("ptq", "write quantization=ptq"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    copied: Path, refused: Refused, argument: str, says: str
) -> None:
    assert says in refused(f"run={copied}", argument)


def test_what_is_no_run_is_refused(copied: Path, tmp_path: Path, refused: Refused) -> None:
    assert "run is missing: write run=..." in refused()
    assert f"write run={copied}" in refused(str(copied))
    assert "there is no such folder" in refused("run=nowhere")
    (tmp_path / "empty").mkdir()
    assert "is no run directory: there is no config.yaml in it" in refused("run=empty")


def test_a_run_that_did_not_end_well_needs_leave(copied: Path, refused: Refused) -> None:
    results = json.loads((copied / "results.json").read_text())
    failed = results | {"status": "failed", "reason": "the loss is nan at step 3"}
    (copied / "results.json").write_text(json.dumps(failed))
    line = refused(f"run={copied}")
    assert "failed: the loss is nan at step 3; write allow_unfinished=true" in line
    (copied / "results.json").write_text(json.dumps(results)[:40])
    assert "was it cut short or edited?" in refused(f"run={copied}")
    (copied / "results.json").unlink()
    assert "never came to its end" in refused(f"run={copied}")
    assert planned(f"run={copied}", "allow_unfinished=true").run.results is None
    shutil.rmtree(copied / "checkpoints")
    line = refused(f"run={copied}", "allow_unfinished=true")
    assert "has no best.ckpt and no last.ckpt: there is no checkpoint" in line


class _Hostile:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("touch executed",)


def test_a_checkpoint_that_holds_code_is_refused_and_executes_nothing(
    copied: Path, tmp_path: Path, refused: Refused
) -> None:
    best = copied / "checkpoints" / "best.ckpt"
    best.write_bytes(pickle.dumps({"state_dict": _Hostile()}))
    assert "it holds more than tensors and plain containers" in refused(f"run={copied}")
    torch.save({"state_dict": _Hostile()}, best)
    assert "it holds more than tensors and plain containers" in refused(f"run={copied}")
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_that_is_damaged_or_of_another_model_is_refused(
    copied: Path, refused: Refused
) -> None:
    best = copied / "checkpoints" / "best.ckpt"
    whole = best.read_bytes()
    for damaged in (whole[:1000], b"", b"seed: 1\n", bytes(range(256))):
        best.write_bytes(damaged)
        assert "cannot be read as a checkpoint" in refused(f"run={copied}")
    weights = torch.load(copied / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    name = next(iter(weights))
    torch.save({"state_dict": weights | {name: torch.zeros(1)}}, best)
    assert f"of another model: {name} has shape (1,)" in refused(f"run={copied}")
    torch.save({"state_dict": weights | {3: torch.zeros(1)}}, best)
    assert "of another model: 3 is not in this model" in refused(f"run={copied}")


def test_what_leads_out_of_the_run_is_refused(
    copied: Path, tmp_path: Path, refused: Refused
) -> None:
    best = copied / "checkpoints" / "best.ckpt"
    outside = shutil.copy(best, tmp_path / "outside.ckpt")
    best.unlink()
    best.symlink_to(outside)
    assert "best.ckpt leads out of the run directory" in refused(f"run={copied}")
    best.unlink()
    best.symlink_to("last.ckpt")  # as Lightning's save_last="link" does
    assert planned(f"run={copied}").checkpoint == best
    moved = shutil.move(copied / "config.yaml", tmp_path / "config.yaml")
    (copied / "config.yaml").symlink_to(moved)
    assert "config.yaml leads out of the run directory" in refused(f"run={copied}")


@pytest.mark.parametrize("section", ["data", "model", "task", "optimizer", "scheduler"])
def test_a_run_that_names_code_executes_nothing(
    copied: Path, tmp_path: Path, refused: Refused, section: str
) -> None:
    config = OmegaConf.load(copied / "config.yaml")
    hostile = {"_target_": "os.system", "command": "touch executed"}
    OmegaConf.update(config, section, hostile, merge=False)
    OmegaConf.save(config, copied / "config.yaml")
    line = refused(f"run={copied}")
    assert f"{section}._target_=os.system: the run names code that is not bitladder's own" in line
    assert "write allow=[os] if you trust it" in line
    assert not (tmp_path / "executed").exists()


def test_what_trained_the_run_is_not_even_imported(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = OmegaConf.load(copied / "config.yaml")
    for section in ("precision", "trainer"):
        OmegaConf.update(config, f"{section}._target_", "theirs.Part")
    config.callbacks.theirs = {"_target_": "theirs.Callback"}
    config.logger = {"theirs": {"_target_": "theirs.Logger"}}
    OmegaConf.save(config, copied / "config.yaml")
    assert planned(f"run={copied}").config.callbacks["theirs"] == {"_target_": "theirs.Callback"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ptq", "dynamic"])
@pytest.mark.parametrize(
    "model",
    [("model=resnet", "model.widths=[16,16,16]"), ("model=vit", "model.depth=1", "model.dim=48")],
)
def test_a_run_under_qat_is_quantized_anew(
    tmp_path: Path, model: tuple[str, ...], method: str
) -> None:
    small = ["experiment=digits", "trainer.max_epochs=2", "logger=none", "callbacks.progress=null"]
    assert main(["train", *small, *model, f"paths.runs={tmp_path / 'trained'}"]) == 0
    (run,) = (tmp_path / "trained").iterdir()
    elsewhere = run.rename(tmp_path / "elsewhere")
    runs = f"paths.runs={tmp_path / 'runs'}"
    arguments = [f"run={elsewhere}", "checkpoint=last.ckpt", f"quantization={method}", runs]
    assert main(["quantize", *arguments]) == 0
    (directory,) = (tmp_path / "runs").iterdir()
    rungs = json.loads((directory / "results.json").read_text())["rungs"]
    before = json.loads((elsewhere / "results.json").read_text())["rungs"]
    accuracy = rungs["float"]["metrics"]["test/accuracy"]
    assert accuracy == before["float"]["metrics"]["test/accuracy"]
    assert abs(rungs["int8"]["metrics"]["test/accuracy"] - accuracy) < 0.05
    layers = json.loads((directory / "quantization.json").read_text())["layers"]
    folded = [layer for layer in layers if "folded" in (layer["reason"] or "")]
    assert bool(folded) == (model[0] == "model=resnet")
