import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bitladder.cli.main import main
from bitladder.runs.sealed import write_sealed

from .killed import PLAIN, same, train
from .resumed import changed, error_of

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_configuration_that_was_edited_is_refused(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped()
    changed(run, "max_epochs: 3", "max_epochs: 4", sealed=False)
    assert "config.yaml is not what the run wrote" in error_of(capsys, str(run))


def test_a_checkpoint_of_another_callback_is_refused(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped()
    checkpoints = run / "checkpoints"
    content = torch.load(checkpoints / "last.ckpt", weights_only=True)
    content["callbacks"]["LastCheckpoint"] = {}
    archive = io.BytesIO()
    torch.save(content, archive)
    write_sealed(checkpoints / "last.ckpt", archive.getvalue())
    assert "last.ckpt was not written by LastCheckpoint" in error_of(capsys, str(run))


@pytest.mark.parametrize(
    "victim", ["local://{victim}", "{victim}", "{checkpoints}/../../../victim"]
)
@pytest.mark.parametrize("best", ["best_k_models", "kth_best_model_path", "last_model_path"])
@pytest.mark.parametrize("is_moved", [False, True])
def test_a_checkpoint_removes_nothing_outside_of_its_folder(
    stopped: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    victim: str,
    best: str,
    is_moved: bool,
) -> None:
    run = stopped()
    (tmp_path / "victim").mkdir()
    checkpoints = (run / "checkpoints").resolve()
    content = torch.load(checkpoints / "last.ckpt", weights_only=True)
    (key,) = (key for key in content["callbacks"] if key.startswith("ModelCheckpoint"))
    path = victim.format(victim=tmp_path / "victim", checkpoints=checkpoints)
    state = content["callbacks"][key]
    state["best_k_models"] = {path: torch.tensor(-1.0)}
    state[best] = path if best != "best_k_models" else state["best_k_models"]
    state["kth_value"] = state["best_model_score"] = torch.tensor(-1.0)
    archive = io.BytesIO()
    torch.save(content, archive)
    write_sealed(checkpoints / "last.ckpt", archive.getvalue())
    if is_moved:
        run = Path(shutil.move(run, tmp_path / "stopped" / "moved"))
    error = error_of(capsys, str(run))
    assert "is not to be trusted: it names " in error
    assert (tmp_path / "victim").is_dir()


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "results.json", "metrics.csv", "train.log", "checkpoints/last.ckpt"],
)
def test_a_pipe_in_the_place_of_a_file_is_refused(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = stopped()
    (run / name).unlink()
    os.mkfifo(run / name)
    assert f"{name} is neither a file nor a folder" in error_of(capsys, str(run))


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json", "results.json"])
def test_a_file_of_gigabytes_is_not_read(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = stopped()
    os.truncate(run / name, 20 * 1024**3)  # a hole: nothing is written
    assert f"{name} has 21475 MB" in error_of(capsys, str(run))


def test_of_metrics_only_the_rows_before_the_checkpoint_are_read(
    tmp_path: Path, stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped()
    rows = (run / "metrics.csv").read_bytes()
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").touch()
    os.truncate(run / "metrics.csv", 20 * 1024**3)
    assert "metrics.csv is not what the run wrote" in error_of(capsys, str(run))
    (run / "metrics.csv").write_bytes(rows)
    os.truncate(run / "metrics.csv", 20 * 1024**3)  # a power cut leaves such an end
    assert main(["resume", str(run)]) == 0
    same(run, train(tmp_path / "whole", *PLAIN))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("lightning.Trainer", "os.system", "trainer._target_=os.system"),
        ("bitladder.callbacks.FiniteGuard", "evil.It", "callbacks.finite_guard._target_=evil.It"),
        ("bitladder.cli.csv_logger.CSVLogger", "evil.It", "allow=[evil]"),
        (
            "    every_n_steps: 1",
            "    every_n_steps: 1\n    dirpath: ../elsewhere",
            "leads out of the run directory",
        ),
        ("    every_n_steps: 1", "    every_n_steps: 1\n    dirpath: /tmp/x", "leads out of"),
        ("    every_n_steps: 1", "    every_n_steps: 1\n    dirpath: x", "may not give it"),
        ("filename: best", "filename: ../best", "leads out of"),
        ("filename: best", "filename: '{/tmp/x}'", "write letters, digits"),
        ("log_every_n_steps: 1", "log_every_n_steps: 1\n  profiler: pytorch", "may not give it"),
        ("log_every_n_steps: 1", "log_every_n_steps: 1\n  default_root_dir: x", "may not give it"),
        ("csv_logger.CSVLogger", "csv_logger.CSVLogger\n    save_dir: x", "logger.csv.save_dir: a"),
        ("csv_logger.CSVLogger", "csv_logger.CSVLogger\n    save_dir: /x", "trust_loggers=true"),
        ("num_samples: 100", "num_samples: 120", "the data are not those"),
        ("bitladder.callbacks.LastCheckpoint", "bitladder.callbacks.RandomState", "has no every"),
    ],
)
def test_a_run_directory_is_data_and_writes_nowhere_else(
    stopped: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    says: str,
) -> None:
    run = stopped()
    changed(run, old, new)
    assert says in error_of(capsys, str(run))
    assert (run / "results.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("metrics.csv", "train.log", "tensorboard", "wandb", "checkpoints"),
        *("checkpoints/last.ckpt", "tensorboard/hparams.yaml", "wandb/debug.log"),
        "checkpoints/val/deep",
    ],
)
def test_no_link_is_followed_out_of_the_directory(
    tmp_path: Path, stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = stopped()
    path, outside = run / name, tmp_path / "outside"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(outside)
    else:
        outside.mkdir()
    path.symlink_to(outside)
    before = sorted(tmp_path.rglob("*"))
    error = error_of(capsys, str(run))
    assert "leads out of the run directory" in error
    assert error.endswith("write trust_links=true if its link is yours")
    assert sorted(tmp_path.rglob("*")) == before


def test_checkpoints_on_another_disk_are_gone_on_from_if_their_owner_says_so(
    tmp_path: Path, stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(before=5)
    checkpoints, disk = run / "checkpoints", tmp_path / "disk"
    checkpoints.rename(disk)
    checkpoints.symlink_to(disk)
    assert main(["resume", str(run), "trust_links=true"]) == 0
    whole = train(tmp_path / "whole", *PLAIN)
    same(run, whole)
    names, expected = (
        sorted(x.name for x in folder.iterdir()) for folder in (disk, whole / "checkpoints")
    )
    assert names == expected
    for command in ("quantize", "evaluate", "reproduce"):
        assert main([command, f"run={run}"]) == 2
        assert "write trust_links=true" in capsys.readouterr().err
    assert main(["evaluate", f"run={run}", "trust_links=true"]) == 0
