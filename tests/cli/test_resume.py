import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bitladder.callbacks import FiniteGuard
from bitladder.cli import resuming, training
from bitladder.cli.logs import last_wandb_run
from bitladder.cli.main import main
from bitladder.cli.schema import Config
from bitladder.errors import RunError
from bitladder.runs import Results, RunDirectory, sha256
from bitladder.runs.lock import locked
from bitladder.runs.results import ArtifactFile
from bitladder.runs.sealed import write_sealed

from .killed import PLAIN, same, train

pytestmark = pytest.mark.filterwarnings("ignore")


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    capsys.readouterr()
    assert main(["resume", *arguments]) == status
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    return error


@pytest.mark.parametrize("before", [1, 4, 6, 8])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(
    tmp_path: Path, stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str], before: int
) -> None:
    run = stopped(before=before)
    assert json.loads((run / "results.json").read_text())["status"] == "interrupted"
    assert main(["resume", str(run)]) == 0
    printed = capsys.readouterr().out
    assert f"going on from {run}/checkpoints/last.ckpt, step {before}\n" in printed
    assert printed.splitlines()[-1] == str(run)
    same(run, train(tmp_path / "whole", *PLAIN))


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(
    tmp_path: Path, stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped("callbacks.last_checkpoint.every_n_steps=100", before=2)
    assert main(["resume", str(run)]) == 0
    assert "nothing was saved yet" in capsys.readouterr().out
    same(run, train(tmp_path / "whole", *PLAIN))


@pytest.mark.parametrize("before", [12, pytest.param(3, marks=pytest.mark.slow)])
def test_augmented_data_of_several_workers_are_the_same(
    tmp_path: Path, stopped: Callable[..., Path], before: int
) -> None:
    data = ["data=digits", "data.batch_size=128", "data.augment=true", "data.num_workers=2"]
    run = stopped(*data, before=before)
    assert main(["resume", str(run)]) == 0
    same(run, train(tmp_path / "whole", *PLAIN, *data))


def test_a_run_copied_to_another_place_goes_on_there(
    tmp_path: Path, stopped: Callable[..., Path]
) -> None:
    run = stopped(before=5).rename(tmp_path / "moved")
    assert main(["resume", str(run)]) == 0
    same(run, train(tmp_path / "whole", *PLAIN))
    assert sorted(x.name for x in (run / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]


def test_after_training_nothing_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RunError("no compiler")

    monkeypatch.setattr(training, "measure", fail)
    run = train(tmp_path / "stopped", *PLAIN, status=1)
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr(training, "measure", lambda *_: {})
    monkeypatch.setattr(FiniteGuard, "on_train_batch_start", fail)
    assert main(["resume", str(run)]) == 0
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    monkeypatch.undo()
    monkeypatch.setattr(training, "measure", lambda *_: {})
    same(run, train(tmp_path / "whole", *PLAIN))
    capsys.readouterr()
    assert main(["resume", str(run)]) == 0
    assert capsys.readouterr().out == f"the run is completed: nothing is left to do\n{run}\n"


@pytest.mark.parametrize("moment", ["write_page", "log_files", "log_report"])
def test_a_run_is_completed_when_nothing_is_left_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unmeasured: None, moment: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, moment, stop)
        run = train(tmp_path / "stopped", *PLAIN, status=130)
    assert Results.read(run / "results.json").status == "interrupted"
    (run / "report.html").unlink(missing_ok=True)
    assert main(["resume", str(run)]) == 0
    assert "completed" in (run / "report.html").read_text()
    same(run, train(tmp_path / "whole", *PLAIN))


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_seen_and_the_one_before_it_used(
    tmp_path: Path, stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    run = stopped(before=5)
    last = run / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    if damage == "gone":
        last.unlink()
    capsys.readouterr()
    assert main(["resume", str(run)]) == 0
    printed = capsys.readouterr().out
    assert (f"{last} is damaged: " in printed) is (damage != "gone")
    assert f"going on from {run}/checkpoints/previous.ckpt, step 4\n" in printed
    same(run, train(tmp_path / "whole", *PLAIN))


def test_without_a_whole_checkpoint_it_says_so(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped()
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert "no checkpoint of" in error_of(capsys, str(run))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("loops", "fit_loop"), None),
        (("loops", "fit_loop", "epoch_loop.batch_progress", "current", "ready"), "odd"),
        (("callbacks", "RandomState", "ranks"), 3),
        (("pytorch-lightning_version",), "odd"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else repr(value),
)
def test_a_checkpoint_that_holds_other_things_is_one_line(
    stopped: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    where: tuple[str, ...],
    value: object,
) -> None:
    run = stopped()
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    node = content
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value
    archive = io.BytesIO()
    torch.save(content, archive)
    write_sealed(path, archive.getvalue())
    assert f"cannot go on from {path}: " in error_of(capsys, str(run))
    assert "Traceback" in (run / "train.log").read_text()


def test_an_error_after_a_checkpoint_was_taken_up_keeps_its_traceback(
    stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    run = stopped()
    monkeypatch.setattr(FiniteGuard, "on_train_batch_end", fail)
    with pytest.raises(ZeroDivisionError):
        main(["resume", str(run)])


def test_what_a_kill_left_half_written_is_removed(stopped: Callable[..., Path]) -> None:
    run = stopped()
    left = (".results.json.0123abcd.tmp", "checkpoints/.last.ckpt.0123abcd.tmp", ".unproven-x.onnx")
    for name in left:
        (run / name).touch()
    (run / ".compile-x").mkdir()
    (run / ".compile-x" / "model_int8.pt2").touch()
    assert main(["resume", str(run)]) == 0
    assert not list(run.rglob(".*"))


def test_two_processes_on_one_run_are_refused(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped()
    with locked(RunDirectory(run)):
        assert "belongs to another process" in error_of(capsys, str(run))


def test_files_that_are_gone_are_named(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped()
    (run / "metrics.csv").unlink()
    (run / "manifest.json").unlink()
    (run / "checkpoints" / "best.ckpt").unlink()
    assert main(["resume", str(run)]) == 0
    assert "metrics.csv is gone" in capsys.readouterr().out
    assert json.loads((run / "manifest.json").read_text())["seed"] == 1


def changed(run: Path, old: str, new: str, *, sealed: bool = True) -> None:
    """Change the configuration, and the manifest so that it fits if ``sealed``."""
    path = run / "config.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    if sealed:
        recorded(run, config_sha256=sha256(path))


def recorded(run: Path, **values: Any) -> None:
    """Change what the manifest says."""
    path = run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_configuration_that_was_edited_is_refused(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped()
    changed(run, "max_epochs: 3", "max_epochs: 4", sealed=False)
    assert "config.yaml is not what the run wrote" in error_of(capsys, str(run))


def test_it_computes_in_as_many_threads_and_tells_what_else_is_other(
    stopped: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = stopped()
    hardware = json.loads((run / "manifest.json").read_text())["hardware"]
    assert hardware["threads"] == torch.get_num_threads() == 1
    recorded(run, hardware=hardware | {"threads": 2, "memory_bytes": 1, "cores": 1000})
    check, seen = FiniteGuard.on_train_batch_start, set()

    def look(self: FiniteGuard, *rest: Any) -> None:
        seen.add(torch.get_num_threads())
        check(self, *rest)

    monkeypatch.setattr(FiniteGuard, "on_train_batch_start", look)
    assert main(["resume", str(run)]) == 0
    assert seen == {2}
    assert torch.get_num_threads() == 1
    printed = capsys.readouterr().out
    assert "computing in 2 threads, as the run did, instead of 1\n" in printed
    assert "and was 1000: the last bits may differ\n" in printed
    assert printed.count("the last bits may differ") == 1


def test_a_run_starts_again_from_the_very_checkpoint_that_it_started_from(
    tmp_path: Path, stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    start = stopped(before=1) / "checkpoints" / "last.ckpt"
    start = start.rename(tmp_path / "start.ckpt")
    shutil.rmtree(tmp_path / "stopped")
    run = stopped(f"checkpoint={start}", "callbacks.last_checkpoint.every_n_steps=100", before=2)
    assert not (run / "checkpoints" / "last.ckpt").exists()
    aside = start.rename(tmp_path / "aside.ckpt")
    assert f"checkpoint={start}: there is no such file" in error_of(capsys, str(run))
    start.write_bytes(aside.read_bytes() + b"x")
    assert "is not the file that the run started from" in error_of(capsys, str(run))
    aside.rename(start)
    assert main(["resume", str(run)]) == 0
    start.unlink()  # a run that has a checkpoint of its own needs it no more
    (run / "results.json").unlink()
    assert main(["resume", str(run)]) == 0


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


def test_a_file_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "file: is no folder: write" in error_of(capsys, str(tmp_path / "file"))


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_completed_run_whose_model_is_damaged_says_so(
    copied: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    results = Results.read(copied / "results.json")
    model = copied / "model_int8.pt2"
    model.write_bytes(b"whole")
    results.artifacts.append(ArtifactFile.of(model))
    results.write(copied / "results.json")
    assert main(["resume", str(copied)]) == 0
    if damage == "gone":
        model.unlink()
    else:
        model.write_bytes(b"who" if damage == "cut" else b"whale")
    says = {"gone": "is gone", "cut": "another size", "flipped": "by its sha256"}[damage]
    error = error_of(capsys, str(copied))
    assert "is completed, but model_int8.pt2" in error
    assert says in error
    assert main(["report", str(copied)]) == 0
    assert f"{copied}: model_int8.pt2" in capsys.readouterr().out


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


ONLINE = """logger:
  wandb:
    _target_: lightning.pytorch.loggers.WandbLogger
    entity: somebody
    offline: false
"""
SERVER = """logger:
  mlflow:
    _target_: lightning.pytorch.loggers.MLFlowLogger
    tracking_uri: http://evil.example
"""


@pytest.mark.parametrize("logger", [ONLINE, ONLINE.replace("    offline: false\n", ""), SERVER])
def test_nothing_is_sent_unless_the_user_says_so(
    stopped: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logger: str,
) -> None:
    run = stopped()
    changed(run, "logger:\n", logger)
    error = error_of(capsys, str(run))
    assert error.endswith("; write trust_loggers=true if this run is yours")
    seen: list[Config] = []
    monkeypatch.setattr(resuming, "assemble", lambda config: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["resume", str(run), "trust_loggers=true"])
    assert {"wandb", "mlflow"} & seen[0].logger.keys()


@pytest.mark.usefixtures("fresh_wandb")
def test_a_wandb_run_of_ones_own_goes_on_online(
    stopped: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    run = stopped("logger=[csv,wandb]", "logger.wandb.offline=false", before=5)
    go_on = f"bitladder resume {run} trust_loggers=true"
    assert capsys.readouterr().err == f"bitladder: interrupted; go on with: {go_on}\n"
    assert "logger.wandb sends to wandb's servers" in error_of(capsys, str(run))
    assert main(go_on.split()[1:]) == 0
    assert "logger.wandb is offline, not online" in capsys.readouterr().out  # so it tried
    first, second = run.glob("wandb/offline-run-*/*.wandb")
    assert first.name == second.name


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


@pytest.mark.usefixtures("fresh_wandb")
def test_a_run_with_every_logger_goes_on_without_a_further_word(
    tmp_path: Path, stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = stopped("logger=[default,mlflow]", before=5)
    assert main(["resume", str(run)]) == 0
    same(run, train(tmp_path / "whole", *PLAIN))
    first, second = run.glob("wandb/offline-run-*/*.wandb")
    assert first.name == second.name


def test_what_cannot_go_on_exactly_is_refused(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped()
    config, manifest = run / "config.yaml", json.loads((run / "manifest.json").read_text())
    values = yaml.safe_load(config.read_text())
    source = {"run": "x", "checkpoint": "checkpoints/best.ckpt", "checkpoint_sha256": "0" * 64}
    (run / "manifest.json").write_text(json.dumps(manifest | {"source": source}))
    assert "was made by bitladder quantize" in error_of(capsys, str(run))
    (run / "manifest.json").write_text(json.dumps(manifest))
    del values["callbacks"]["last_checkpoint"]
    config.write_text(yaml.safe_dump(values))
    recorded(run, config_sha256=sha256(config))
    assert "have no bitladder.callbacks.LastCheckpoint" in error_of(capsys, str(run))


def test_what_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such folder" in error_of(capsys, str(tmp_path / "none"))
    assert "no run directory" in error_of(capsys, str(tmp_path))
    assert "there is no key trainer.max_epochs" in error_of(
        capsys, str(tmp_path), "trainer.max_epochs=9"
    )


def test_a_wandb_run_keeps_its_id(tmp_path: Path) -> None:
    assert last_wandb_run(RunDirectory(tmp_path)) is None
    segment = tmp_path / "wandb" / "offline-run-20261122_204500-my-k3x9ab-1"
    segment.mkdir(parents=True)
    assert last_wandb_run(RunDirectory(tmp_path)) is None
    (segment / "run-my-k3x9ab.wandb").touch()
    (tmp_path / "wandb" / "latest-run").symlink_to(segment.name)
    assert last_wandb_run(RunDirectory(tmp_path)) == "my-k3x9ab"
