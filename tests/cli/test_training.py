import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitladder.cli import training
from bitladder.cli.main import main

SMALL = [
    "data=synthetic",
    "model=mlp",
    "model.hidden=[16]",
    "trainer.max_epochs=2",
    "optimizer.lr=0.01",
    "callbacks.progress=null",
]
# What our libraries say and no user of a command sees: it goes into the run's log.
pytestmark = pytest.mark.filterwarnings("ignore")


def run(tmp_path: Path, *arguments: str) -> int:
    return main(["train", *SMALL, f"paths.runs={tmp_path / 'runs'}", *arguments])


def only_run(tmp_path: Path) -> Path:
    (directory,) = (tmp_path / "runs").iterdir()
    return directory


@pytest.mark.parametrize("quantization", ["none", "dynamic", "ptq", "qat"])
def test_a_run_leaves_its_directory_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quantization: str
) -> None:
    assert run(tmp_path, "logger=csv", f"quantization={quantization}") == 0
    directory = only_run(tmp_path)
    assert capsys.readouterr().out.splitlines()[-1] == str(directory)
    int8 = {"model_int8.pt2", "quantization.json", "histograms.json"}
    int8 = int8 if quantization != "none" else set()
    # Kept only where the rungs answer differently.
    assert {path.name for path in directory.iterdir()} - {"samples.npz"} == int8 | {
        "checkpoints",
        "config.yaml",
        "manifest.json",
        "metrics.csv",
        "model_float.pt2",
        "predictions.npz",
        "report.html",
        "results.json",
        "run.lock",
        "train.log",
    }
    results = json.loads((directory / "results.json").read_text())
    assert results["status"] == "completed"
    rungs = results["rungs"]
    assert list(rungs) == (["float", "int8"] if int8 else ["float"])
    for rung in rungs.values():
        assert rung["size_bytes"] > 0
        assert rung["latency_ms"].keys() == {"batch_1", "batch_32"}
        assert "test/accuracy" in rung["metrics"]
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["precision"]["requested"] == "fp32"
    assert manifest["precision"]["effective"]["parameters"] == "float32"
    for name in ("last.ckpt", "best.ckpt"):
        torch.load(directory / "checkpoints" / name, weights_only=True)
    with (directory / "metrics.csv").open() as file:
        columns = {key for row in csv.DictReader(file) for key, value in row.items() if value}
    assert {"train/loss_step", "val/accuracy", "float/size_bytes"} <= columns


def test_a_run_in_fp8_tells_which_linears_ran_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("model.hidden=[32,32]", "precision=fp8", "precision.emulate=true")
    assert run(tmp_path, "logger=none", "quantization=none", *arguments) == 0
    assert "fp8: 1 of 3 linears ran in fp8: see precision.json" in capsys.readouterr().out
    directory = only_run(tmp_path)
    report = json.loads((directory / "precision.json").read_text())
    assert (report["schema_version"], report["recipe"], report["emulated"]) == (
        1,
        "tensorwise",
        True,
    )
    assert [linear["executed"] for linear in report["linears"]] == [False, True, False]
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["precision"]["effective"]["linears"] == "float8_e4m3fn"


def test_the_artifact_gives_the_recorded_predictions_with_torch_alone(tmp_path: Path) -> None:
    assert run(tmp_path, "logger=none", "quantization=ptq") == 0
    directory = only_run(tmp_path)
    from bitladder.data import Synthetic

    datamodule = Synthetic(batch_size=16, seed=1)
    datamodule.setup("test")
    images = torch.cat([x for x, _ in datamodule.test_dataloader()])
    torch.save(images, tmp_path / "x.pt")
    program = (
        "import torch\n"
        f"model = torch._inductor.aoti_load_package({str(directory / 'model_int8.pt2')!r})\n"
        "x = torch.load('x.pt')\n"
        "torch.save([model(x[:1].clone()), model(x[:7].clone()), model(x)], 'y.pt')\n"
        "try:\n"
        "    model(x[..., :-1].clone())\n"
        "except RuntimeError as error:\n"
        "    print('refused:', str(error).splitlines()[0])\n"
    )
    # Without it PyTorch takes a batch of another shape, and reads beyond its end.
    checked = os.environ | {"AOTI_RUNTIME_CHECK_INPUTS": "1"}
    command = [sys.executable, "-I", "-c", program]
    ran = subprocess.run(
        command, check=True, cwd=tmp_path, env=checked, stdout=subprocess.PIPE, text=True
    )
    assert ran.stdout.startswith("refused: input_handles[0]: unmatched dim value")
    recorded = np.load(directory / "predictions.npz")["int8"]
    for outputs in torch.load(tmp_path / "y.pt"):
        assert (outputs.argmax(1).numpy() == recorded[: len(outputs)].argmax(1)).all()


def test_wandb_is_written_offline_beside_the_csv(
    fresh_wandb: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    assert run(tmp_path, "quantization=none") == 0
    directory = only_run(tmp_path)
    assert list(directory.glob("wandb/offline-run-*/*.wandb"))
    assert (directory / "metrics.csv").exists()


def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path, status: int, *arguments: str) -> str:
    assert run(tmp_path, "logger=none", *arguments) == status
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    return error


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("model=resnett", "did you mean"),
        ("precision=fp9", "did you mean precision=fp8"),
        ("precision=fp8", "precision.emulate=true"),
        ("precision=tf32", "precision=fp32"),
        ("trainer=gpu", "trainer=cpu"),
        ("trainer.max_epoch=3", "max_epochs"),
        ("quantization.calibration_batches=0", "calibration_batches=0"),
        ("data.batch_size=0", "batch_size"),
        ("checkpoint=nowhere.ckpt", "nowhere.ckpt"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, says: str
) -> None:
    if argument.startswith("trainer=gpu") and torch.cuda.is_available():
        argument = "precision=fp9"
        says = "precision"
    assert says in fails(capsys, tmp_path, 2, "quantization=ptq", argument)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("quantization.target=nett", "did you mean 'net'"),
        ("quantization.skip=[haed]", "matches no layer"),
        ("quantization.only=[haed]", "matches no layer"),
    ],
)
def test_a_name_that_matches_nothing_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, says: str
) -> None:
    assert says in fails(capsys, tmp_path, 2, argument)
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "logger=none", "quantization=none", "trainer.max_epochs=1") == 0
    saved = only_run(tmp_path) / "checkpoints" / "last.ckpt"
    good = torch.load(saved, weights_only=True)
    capsys.readouterr()

    def refused(*arguments: str, **changes: object) -> str:
        torch.save({**good, **changes}, tmp_path / "it.ckpt")
        return fails(capsys, tmp_path, 2, f"checkpoint={tmp_path / 'it.ckpt'}", *arguments)

    weights = dict(good["state_dict"])
    name = next(iter(weights))
    assert "of another model" in refused(state_dict={"net.other": torch.zeros(1)})
    assert f"{name} has shape (1,)" in refused(state_dict=weights | {name: torch.zeros(1)})
    assert f"{name} is no tensor" in refused(state_dict=weights | {name: 1.0})
    assert "holds no optimizer_states" in refused(optimizer_states=None)
    assert "of another optimizer, which has no dampening" in refused("optimizer=sgd")
    schedule = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)], lr=1.0), 1)
    error = refused("scheduler=cosine", lr_schedulers=[schedule.state_dict()])
    assert "of another scheduler than LambdaLR" in error
    (tmp_path / "it.ckpt").write_bytes(saved.read_bytes()[:1000])
    error = fails(capsys, tmp_path, 2, f"checkpoint={tmp_path / 'it.ckpt'}")
    assert "cannot be read as a checkpoint" in error
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            [
                "precision._target_=lightning.pytorch.plugins.HalfPrecision",
                "~precision.allow_precision_change",
            ],
            "gives a HalfPrecision: write what gives a bitladder.precision.base.LadderPrecision",
        ),
        (["data._target_=lightning.LightningDataModule"], "bitladder.data.base.ImageDataModule"),
    ],
)
def test_a_part_of_another_kind_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in fails(capsys, tmp_path, 2, "quantization=none", *arguments)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("a file")
    assert str(tmp_path / "runs") in fails(capsys, tmp_path, 2, "quantization=none")


def test_a_loss_that_is_nan_fails_the_run_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = fails(capsys, tmp_path, 1, "optimizer=sgd", "optimizer.lr=1e30")
    assert "the loss is nan" in error or "the loss is inf" in error
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    assert results["status"] == "failed"
    assert "the loss is" in results["reason"]


def test_a_training_of_no_batch_fails_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("quantization=none", "+trainer.max_time='00:00:00:00'")
    assert "no batch was trained" in fails(capsys, tmp_path, 2, *arguments)
    assert json.loads((only_run(tmp_path) / "results.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("interval", ["+trainer.val_check_interval=1000"])
def test_what_only_the_data_show_to_be_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], interval: str
) -> None:
    assert "val_check_interval" in fails(capsys, tmp_path, 2, "quantization=none", interval)


def test_a_fault_is_written_down_and_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: Any) -> None:
        raise KeyError("nobody\nforesaw this")

    monkeypatch.setattr(training, "measure", fault)
    with pytest.raises(KeyError):
        run(tmp_path, "quantization=none", "logger=none")
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    assert results["status"] == "failed"
    assert results["reason"].startswith("KeyError: ")
    assert "foresaw this" in results["reason"]


def test_nan_in_the_data_fails_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_data.py").write_text(
        "from bitladder.data import Synthetic\n"
        "class BrokenFromTheSecondEpoch(Synthetic):\n"
        "    def on_after_batch_transfer(self, batch, dataloader_idx):\n"
        "        images, labels = batch\n"
        "        if self.trainer.training and self.trainer.current_epoch == 1:\n"
        "            images = images * float('nan')\n"
        "        return images, labels\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    target = "data._target_=broken_data.BrokenFromTheSecondEpoch"
    error = fails(capsys, tmp_path, 1, target, "quantization=none")
    steps = torch.load(only_run(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)
    assert f"the data holds NaN or infinity at step {steps['global_step']} (epoch 1" in error
    assert steps["epoch"] == 1
    assert all(bool(x.isfinite().all()) for x in steps["state_dict"].values())
    assert json.loads((only_run(tmp_path) / "results.json").read_text())["status"] == "failed"


def start(tmp_path: Path, *arguments: str, before: str = "pass") -> subprocess.Popen[str]:
    """A run in a process of its own."""
    program = f"import sys; {before}; from bitladder.cli.main import main; sys.exit(main())"
    folder = f"paths.runs={tmp_path / 'runs'}"
    return subprocess.Popen(
        [sys.executable, "-c", program, "train", *SMALL, folder, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_fails_the_run_in_one_line_and_leaves_no_part_of_a_file(
    tmp_path: Path,
) -> None:
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (8192, 8192))"
    process = start(tmp_path, "logger=csv", "quantization=none", before=limit)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert error.startswith("bitladder: the run failed: cannot write ")
    assert error.strip().endswith("best.ckpt: File too large")
    assert len(error.strip().splitlines()) == 1
    directory = only_run(tmp_path)
    assert json.loads((directory / "results.json").read_text())["status"] == "failed"
    assert not [path for path in directory.rglob("*") if path.suffix in (".ckpt", ".tmp", ".pt2")]


def test_an_interrupted_run_says_so_and_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    # What a shell starts in the background, as a test runner may be, ignores interrupts.
    listen = "import signal as s; s.signal(s.SIGINT, s.default_int_handler)"
    process = start(tmp_path, "logger=csv", "trainer.max_epochs=10000", before=listen)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    directory = only_run(tmp_path)
    said = f"bitladder: interrupted; go on with: bitladder resume {directory}"
    assert error.strip() == said
    results = json.loads((directory / "results.json").read_text())
    assert (results["status"], results["reason"]) == ("interrupted", "interrupted")
    torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert not (directory / "model_int8.pt2").exists()


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the compilation of the rungs, which takes seconds."""
    monkeypatch.setattr(training, "measure", lambda *_: {})


FP16 = ("precision=fp16", "quantization=none")


def test_last_ckpt_holds_what_the_run_ended_with_whenever_it_was_best(
    tmp_path: Path, unmeasured: None
) -> None:
    # The lowest accuracy counts as best, so the best epoch is not the last.
    worst = ("callbacks.checkpoint.mode=min", "trainer.max_epochs=4")
    assert run(tmp_path, "logger=none", "quantization=none", *worst) == 0
    checkpoints = only_run(tmp_path) / "checkpoints"
    names = sorted(path.name for path in checkpoints.iterdir())
    assert names == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    best, last = (
        torch.load(checkpoints / name, weights_only=True) for name in ("best.ckpt", "last.ckpt")
    )
    assert best["global_step"] < last["global_step"] == 24


def test_a_loss_scale_below_its_minimum_fails_the_run_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scaler = ("precision.init_scale=1099511627776", "precision.min_scale=549755813888")
    error = fails(capsys, tmp_path, 1, *FP16, *scaler)
    assert "fell to 2.74878e+11, below min_scale=5.49756e+11, with 2 optimizer steps" in error
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    assert results["status"] == "failed"
    assert "below min_scale" in results["reason"]


def test_skipped_steps_are_in_the_metrics_and_the_results(tmp_path: Path, unmeasured: None) -> None:
    scaler = ("precision.init_scale=16777216", "trainer.log_every_n_steps=1")
    assert run(tmp_path, *FP16, *scaler, "logger=csv") == 0
    directory = only_run(tmp_path)
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["precision"]["effective"]["skipped_steps"] == 0
    effective = json.loads((directory / "results.json").read_text())["effective_precision"]
    skipped = effective["skipped_steps"]
    assert 0 < skipped < 12
    assert effective["loss_scale"] == 16777216 / 2**skipped
    with (directory / "metrics.csv").open() as file:
        logged = [row["precision/skipped_steps"] for row in csv.DictReader(file)]
    counts = [float(count) for count in logged if count]
    assert counts == sorted(counts)
    assert (len(counts), counts[0], counts[-1]) == (12, 0, skipped)


def test_a_checkpoint_of_another_precision_needs_leave(
    tmp_path: Path, unmeasured: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *FP16, "logger=none", "scheduler=none") == 0
    more = (
        f"checkpoint={only_run(tmp_path) / 'checkpoints' / 'last.ckpt'}",
        "quantization=none",
        "scheduler=none",
        "trainer.max_epochs=3",
        "precision=bf16_true",
    )
    error = fails(capsys, tmp_path, 2, *more)
    assert error.endswith("write precision.allow_precision_change=true to go on in bf16_true")
    only_run(tmp_path)
    assert run(tmp_path, *more, "logger=none", "precision.allow_precision_change=true") == 0
