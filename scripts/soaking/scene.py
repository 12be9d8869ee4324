"""Runs to which faults happen."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from audit import audit
from cases import cases
from job import steps
from kills import LIMIT_SECONDS, Process, difference, reference

from bitladder.runs import RunDirectory

COMMAND = "import sys; from bitladder.cli.main import main; sys.exit(main())"

HALF_WAY = 18
"""Optimizer steps; the run has 36."""

(PTQ,) = (case for case in cases() if case.name == "fp32-ptq")


@cache
def whole(folder: Path) -> RunDirectory:
    """A run to which nothing happened."""
    return reference(PTQ, folder / "whole").directory


@cache
def killed(folder: Path) -> RunDirectory:
    """A run that was killed in the middle of its training."""
    (place := folder / "killed").mkdir()
    process = training(place)
    until(lambda: steps(process.odometer) >= HALF_WAY)
    process.kill(with_children=True)
    return run_in(place)


def copy_of_killed(place: Path) -> RunDirectory:
    """That run, to be spoilt."""
    return RunDirectory(Path(shutil.copytree(killed(place.parent).path, place / "run")))


def training(place: Path, *arguments: str, obeys: bool = False) -> Process:
    """Start a run.

    Args:
        place: Its folder.
        arguments: Further ones.
        obeys: Whether permissions bind it, as they do everybody but root.
    """
    runs = f"paths.runs={place / 'runs'}"
    return Process(["train", *PTQ.arguments, runs, *arguments], place, obeys=obeys)


def run_in(place: Path) -> RunDirectory:
    """The one run that was made there."""
    (run,) = (place / "runs").iterdir()
    return RunDirectory(run)


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came to where the fault was to happen"
        time.sleep(0.01)


def is_over(run: RunDirectory) -> bool:
    """Whether its training is."""
    try:
        state = torch.load(run.last_checkpoint, weights_only=True)["callbacks"]
    except FileNotFoundError:  # none yet, or it is just renamed and the next one takes its place
        return False
    return state["LastCheckpoint"]["over"]


def resume(directory: RunDirectory, place: Path) -> tuple[int, str]:
    """Go on with a run: the exit status, and what was said."""
    process = Process(["resume", str(directory.path)], place)
    return process.status(), process.log.read_text()


def ends_well(directory: RunDirectory, place: Path) -> str:
    """Resume a run, which must end as the one to which nothing happened; what it said first."""
    status, said = resume(directory, place)
    assert status == 0, f"resume ended with {status}: {said[-300:]}"
    same_as_whole(directory, place)
    return said


def same_as_whole(directory: RunDirectory, place: Path) -> None:
    """Refuse a run that is not, to the bit, the one to which nothing happened."""
    nothing_torn(directory)
    different = difference(whole(place.parent), directory)
    assert different is None, different


def nothing_torn(directory: RunDirectory) -> None:
    """Refuse a run with a file that is not what it claims to be."""
    torn = audit(directory)
    assert not torn, torn


def in_a_shell(
    arguments: list[str], environment: dict[str, str], place: Path
) -> subprocess.Popen[str]:
    """Start a command in a fresh interpreter, with an environment of its own."""
    with (place / "shell.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            text=True,
        )
