"""What happens to machines, made to happen to runs: each ends as it must, or says how not."""

import os
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from clock import jumping_clock
from job import steps
from kills import LIMIT_SECONDS, Process
from scene import (
    HALF_WAY,
    PTQ,
    copy_of_killed,
    ends_well,
    in_a_shell,
    is_over,
    nothing_torn,
    resume,
    run_in,
    same_as_whole,
    training,
    until,
)

from bitladder.runs import RunDirectory

Fault = Callable[[Path], str]
"""Happens to runs in a folder of its own; what was seen, in a few words."""


def full_while_training(place: Path) -> str:
    """The disk is full half-way through the training, and is emptied later."""
    return _full(place, lambda process, _: steps(process.odometer) >= HALF_WAY)


def full_while_compiling(place: Path) -> str:
    """The disk is full when the artifact is to be written."""
    return _full(place, lambda _, run: run.quantization.exists() or run.float_artifact.exists())


def full_after_training(place: Path) -> str:
    """The disk is full when the training is over."""
    return _full(place, lambda _, run: is_over(run))


def _full(place: Path, moment: Callable[[Process, RunDirectory], bool]) -> str:
    with _disk(place / "runs"):
        process = training(place)
        until(lambda: any((place / "runs").glob("*/config.yaml")))
        run = run_in(place)
        until(lambda: moment(process, run))
        filler = place / "runs" / ".filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        status = process.status()
        said = process.last_line()
        assert (status, "no space left on device" in said.lower()) == (1, True), (status, said)
        nothing_torn(run)
        filler.unlink()
        ends_well(run, place)
        return f"status 1, {said!r}; resumed, identical"


def _disk(folder: Path) -> "closing[_Disk]":
    return closing(_Disk(folder))


class _Disk:
    """A small file system of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=80m", "none", str(folder)],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, f"not run, as nothing can be mounted here: {made.stderr}"

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def read_only_from_the_start(place: Path) -> str:
    """A run is to be made, and gone on with, where nothing can be written."""
    run = copy_of_killed(place)
    (place / "runs").mkdir()
    for folder in (place / "runs", run.path, run.checkpoints):
        folder.chmod(0o555)
    run.lock.chmod(0o444)
    for process in (
        training(place, obeys=True),
        Process(["resume", str(run.path)], place, obeys=True),
    ):
        assert process.status() == 2, process.last_line()
        assert "cannot " in process.last_line(), process.last_line()
    said = process.last_line()
    for folder in (place / "runs", run.path, run.checkpoints):
        folder.chmod(0o755)
    run.lock.chmod(0o644)
    assert not any((place / "runs").iterdir()), "a directory was left behind"
    ends_well(run, place)
    return f"status 2, {said!r}; resumed, identical"


def read_only_while_training(place: Path) -> str:
    """The directory cannot be written any more, half-way through the training."""
    process = training(place, obeys=True)
    until(lambda: steps(process.odometer) >= HALF_WAY)
    run = run_in(place)
    for folder in (run.path, run.checkpoints):
        folder.chmod(0o555)
    status, said = process.status(), process.last_line()
    for folder in (run.path, run.checkpoints):
        folder.chmod(0o755)
    assert (status, "permission denied" in said.lower()) == (1, True), (status, said)
    nothing_torn(run)
    ends_well(run, place)
    return f"status 1, {said!r}; resumed, identical"


def checkpoint_cut(place: Path) -> str:
    """The last checkpoint lost its second half."""
    run = copy_of_killed(place)
    os.truncate(run.last_checkpoint, run.last_checkpoint.stat().st_size // 2)
    return _uses_the_one_before(run, place)


def checkpoint_with_a_flipped_bit(place: Path) -> str:
    """One bit of the last checkpoint is another."""
    run = copy_of_killed(place)
    content = bytearray(run.last_checkpoint.read_bytes())
    content[len(content) // 3] ^= 0x10
    run.last_checkpoint.write_bytes(content)
    return _uses_the_one_before(run, place)


def _uses_the_one_before(run: RunDirectory, place: Path) -> str:
    said = ends_well(run, place)
    assert "last.ckpt is damaged" in said, said
    assert "previous.ckpt, step" in said, said
    return "seen, the one before it used, identical"


def files_gone(place: Path) -> str:
    """Each file of a killed run is deleted in turn."""
    names = (
        *("manifest.json", "metrics.csv", "train.log", "run.lock"),
        *("checkpoints/last.ckpt", "checkpoints/previous.ckpt", "checkpoints/best.ckpt"),
    )
    for name in names:
        (folder := place / name.replace("/", "-")).mkdir()
        run = copy_of_killed_in(folder, place)
        (run.path / name).unlink()
        status, said = resume(run, folder)
        assert status == 0, f"without {name}: {said[-300:]}"
        nothing_torn(run)
        if name == "metrics.csv":
            assert "metrics.csv is gone" in said, said
        else:
            same_as_whole(run, place)
    (folder := place / "config").mkdir()
    run = copy_of_killed_in(folder, place)
    run.config.unlink()
    status, said = resume(run, folder)
    assert (status, "config.yaml" in said) == (2, True), said
    return "config.yaml: status 2; metrics.csv: said aloud; any other: resumed, identical"


def copy_of_killed_in(folder: Path, place: Path) -> RunDirectory:
    """A copy for one of several parts of a fault."""
    run = copy_of_killed(place)
    return RunDirectory(run.path.rename(folder / "run"))


def two_processes(place: Path) -> str:
    """A run is resumed while another process resumes it."""
    run = copy_of_killed(place)
    first = Process(["resume", str(run.path)], place)
    until(lambda: steps(first.odometer) > 0)
    status, said = resume(run, place)
    assert (status, "belongs to another process" in said) == (2, True), said
    assert first.status() == 0, first.last_line()
    same_as_whole(run, place)
    return "the second: status 2; the first: identical"


def clock_jumps(place: Path) -> str:
    """The clock jumps by a day, back and forth, while a run trains, and between kill and resume."""
    for days in (1, -1):
        (folder := place / str(days)).mkdir()
        environment, jump = jumping_clock(folder)
        process = in_a_shell(
            ["train", *PTQ.arguments, f"paths.runs={folder / 'runs'}"], environment, folder
        )
        until(lambda folder=folder: any(folder.glob("runs/*/checkpoints/last.ckpt")))
        jump(days)
        assert process.wait(LIMIT_SECONDS) == 0, (folder / "shell.log").read_text()[-300:]
        same_as_whole(run_in(folder), place)
        (between := folder / "between").mkdir()
        run = copy_of_killed_in(between, place)
        process = in_a_shell(["resume", str(run.path)], environment, between)
        assert process.wait(LIMIT_SECONDS) == 0, (between / "shell.log").read_text()[-300:]
        same_as_whole(run, place)
    return "identical"


def wandb_refuses(place: Path) -> str:
    """No server of wandb's is there."""
    return _with_wandb(place, "http://127.0.0.1:9")


def wandb_is_silent(place: Path) -> str:
    """A server takes the connection and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return _with_wandb(place, f"http://127.0.0.1:{server.getsockname()[1]}")


def _with_wandb(place: Path, url: str) -> str:
    environment = {
        "WANDB_BASE_URL": url,
        "WANDB_MODE": "online",
        "WANDB_API_KEY": "0" * 40,
    }
    arguments = [*PTQ.arguments, "logger=[csv,wandb]", "logger.wandb.offline=false"]
    process = in_a_shell(["train", *arguments, f"paths.runs={place / 'runs'}"], environment, place)
    assert process.wait(LIMIT_SECONDS) == 0, (place / "shell.log").read_text()[-500:]
    run = run_in(place)
    assert run.wandb.exists()
    nothing_torn(run)
    different = _but_for_wandb(place, run)
    assert different is None, different
    return "said aloud, trained on; metrics.csv is complete"


def _but_for_wandb(place: Path, run: RunDirectory) -> str | None:
    run.wandb.rename(place / "wandb")
    try:
        same_as_whole(run, place)
    except AssertionError as error:
        return str(error)
    return None


FAULTS: dict[str, Fault] = {
    "full disk while training": full_while_training,
    "full disk after training": full_after_training,
    "full disk while compiling": full_while_compiling,
    "read-only from the start": read_only_from_the_start,
    "read-only while training": read_only_while_training,
    "checkpoint cut": checkpoint_cut,
    "checkpoint with a flipped bit": checkpoint_with_a_flipped_bit,
    "files gone": files_gone,
    "two processes": two_processes,
    "clock jumps": clock_jumps,
    "wandb refuses": wandb_refuses,
    "wandb is silent": wandb_is_silent,
}
