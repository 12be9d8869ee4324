import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bitladder.callbacks import FiniteGuard
from bitladder.cli import training
from bitladder.cli.main import main
from bitladder.errors import RunError
from bitladder.runs import Results, RunDirectory, sha256
from bitladder.runs.lock import locked
from bitladder.runs.results import ArtifactFile
from bitladder.runs.sealed import write_sealed

from .killed import PLAIN, same, train
from .resumed import error_of, recorded

pytestmark = pytest.mark.filterwarnings("ignore")


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
