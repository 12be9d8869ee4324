"""Runs that are killed at random moments and resumed, until they end."""

import os
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from audit import audit
from cases import EVERY_N_STEPS, Case
from job import steps

from bitladder.cli.checkpoint import tensor_hashes
from bitladder.runs import Results, RunDirectory, read_json
from bitladder.runs.reproduction import compare
from bitladder.runs.trace import Trace, read_trace
from bitladder.sweeps.process import JobProcess, start

LIMIT_SECONDS = 600
"""Of one process; far above what any takes, on a busy machine, too."""

FIRST_STEPS = 11
"""After so many it is known how long one takes."""

AGAIN = 0.5
"""How often a resumed run is killed again."""

GOES_ON = re.compile(r"going on from .*last\.ckpt, step (\d+)|going on from .*, step (\d+)")


@dataclass(frozen=True)
class Reference:
    """A run that nobody killed.

    Attributes:
        directory: Its own.
        seconds: How long it took.
        steps: How many optimizer steps it took.
        seconds_a_step: How long one of them took.
    """

    directory: RunDirectory
    seconds: float
    steps: int
    seconds_a_step: float


@dataclass
class Outcome:
    """What became of a run that was killed.

    Attributes:
        case: Its name.
        number: With the seed, what made the dice.
        phases: Where each kill fell.
        restarted: Kills after which there was nothing to go on with, and nothing lost.
        lost: Of each kill, the steps that were taken again.
        torn: Files that claimed to be whole and were not.
        problem: Why it did not end, or not as the reference did; None if it is identical.
    """

    case: str
    number: int
    phases: list[str] = field(default_factory=list)
    restarted: int = 0
    lost: list[int] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def lost_beyond(self) -> int:
        """Steps that were lost although a checkpoint was due before them."""
        return sum(max(0, steps - EVERY_N_STEPS) for steps in self.lost)

    @property
    def bad(self) -> bool:
        """Whether anything is not as it must be."""
        return bool(self.problem or self.torn or self.lost_beyond)


class Process:
    """A command, its log and its odometer."""

    def __init__(self, arguments: Sequence[str], folder: Path, *, obeys: bool = False) -> None:
        number = len(list(folder.glob("*.log")))
        self.log = folder / f"{number}.log"
        self.odometer = folder / f"{number}.steps"
        self.log.touch()
        self._job: JobProcess = start(
            "job:run", (list(arguments), str(self.odometer), obeys), self.log
        )
        while not self.odometer.exists() and self._job.process.is_alive():
            time.sleep(0.002)  # The first process waits for the imports.
        self.began = time.monotonic()

    def alive_after(self, seconds: float) -> bool:
        """Wait that long after the start, or to the end."""
        self._job.process.join(max(0.0, self.began + seconds - time.monotonic()))
        return self._job.process.is_alive()

    def alive_at_step(self, step: int) -> bool:
        """Wait until it has taken that many steps, or to the end."""
        while steps(self.odometer) < step and self._job.process.is_alive():
            time.sleep(0.002)
        return self._job.process.is_alive()

    def kill(self, *, with_children: bool) -> None:
        """As the kernel does when memory is short: with no chance to do anything."""
        pid = self._job.process.pid
        assert pid is not None
        (os.killpg if with_children else os.kill)(pid, signal.SIGKILL)
        self._job.process.join()
        self._job.close()

    def status(self) -> int:
        """Wait for the end; the exit status."""
        if self.alive_after(LIMIT_SECONDS):
            self.kill(with_children=True)
            return -signal.SIGALRM
        self._job.close()
        return self._job.process.exitcode or 0

    def last_line(self) -> str:
        """What it said last."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "not a word"


def reference(case: Case, folder: Path) -> Reference:
    """Run to the end, and note when it trains.

    Raises:
        RuntimeError: If it fails.
    """
    folder.mkdir(parents=True)
    process = Process(["train", *case.arguments, f"paths.runs={folder / 'runs'}"], folder)
    process.alive_at_step(1)
    first = time.monotonic()
    process.alive_at_step(FIRST_STEPS)
    seconds_a_step = (time.monotonic() - first) / (FIRST_STEPS - 1)
    status = process.status()
    seconds = time.monotonic() - process.began
    if status != 0:
        raise RuntimeError(f"{case.name} ends with {status}: {process.last_line()}")
    (run,) = (folder / "runs").iterdir()
    directory = RunDirectory(run)
    if torn := audit(directory):
        raise RuntimeError(f"{case.name}: {torn[0]}")
    return Reference(directory, seconds, steps(process.odometer), seconds_a_step)


def killed_and_resumed(
    case: Case, number: int, seed: int, whole: Reference, folder: Path
) -> Outcome:
    """Kill a run at a random moment, resume it, perhaps kill that, and so on to its end.

    Half of the moments are drawn from all of the run, half from its training: a step and a part of
    the time that the next one takes, for the training of a run this small is soon over.
    """
    dice = Random(f"{seed}/{number}")
    outcome = Outcome(case.name, number)
    folder.mkdir(parents=True)
    train = ["train", *case.arguments, f"paths.runs={folder / 'runs'}"]
    arguments, reached, kill = train, 0, True
    while True:
        process = Process(arguments, folder)
        killed = kill and _alive_at_a_moment(process, reached, whole, dice)
        with_children = dice.random() < 0.5
        if killed:
            process.kill(with_children=with_children)
        elif (status := process.status()) != 0:
            outcome.problem = f"{arguments[0]} ended with {status}: {process.last_line()}"
            return outcome
        if arguments is not train:
            _note_loss(outcome, process, reached)
        reached = max(reached, steps(process.odometer))
        directory = _directory(folder)
        if directory is not None:
            outcome.torn += audit(directory)
        if not killed:
            assert directory is not None
            outcome.problem = difference(whole.directory, directory)
            return outcome
        outcome.phases.append(_phase(directory))
        kill = dice.random() < AGAIN
        if directory is None or not directory.config.exists():
            outcome.restarted += 1
            arguments, reached = train, 0
        else:
            arguments = ["resume", str(directory.path)]


def _alive_at_a_moment(process: Process, reached: int, whole: Reference, dice: Random) -> bool:
    """Wait for it; whether the process is still there."""
    if dice.random() < 0.5 or reached >= whole.steps:
        return process.alive_after(dice.uniform(0.0, whole.seconds))
    step, seconds = dice.randint(reached, whole.steps), dice.uniform(0.0, whole.seconds_a_step)
    if not process.alive_at_step(step):
        return False
    time.sleep(seconds)
    return process.alive_after(0.0)


def _note_loss(outcome: Outcome, process: Process, reached: int) -> None:
    """How many of the steps that were taken are taken again."""
    if not steps(process.odometer) and "going on from" not in process.log.read_text():
        return  # It was killed before it said where it goes on.
    found = GOES_ON.search(process.log.read_text())
    outcome.lost.append(reached - (int(found[1] or found[2]) if found else 0))


def _directory(folder: Path) -> RunDirectory | None:
    """The newest run directory: one that was made before its config is passed over."""
    runs = sorted((folder / "runs").glob("*/"), key=lambda path: path.stat().st_ctime_ns)
    with_config = [path for path in runs if (path / "config.yaml").exists()]
    newest = (with_config or runs)[-1:]
    return RunDirectory(newest[0]) if newest else None


def _phase(directory: RunDirectory | None) -> str:
    """Where a kill fell."""
    if directory is None or not directory.config.exists():
        return "starting"
    if directory.results.exists() and Results.read(directory.results).status == "completed":
        return "leaving"
    if directory.report.exists():
        return "reporting"
    if directory.predictions.exists() or directory.quantization.exists():
        return "measuring"
    try:
        state = torch.load(directory.last_checkpoint, weights_only=True)["callbacks"]
    except OSError:
        return "before the first checkpoint"
    over = state["LastCheckpoint"]["over"]
    return "converting, compiling" if over else "training"


def difference(whole: RunDirectory, resumed: RunDirectory) -> str | None:
    """The first thing that two runs do not have in common, to the bit; None if there is none."""
    manifests = read_json(whole.manifest), read_json(resumed.manifest)
    result = compare(_trace(whole), _trace(resumed), manifests)
    if not result.identical:
        return str(result.differences[0])
    names = [{path.name for path in run.path.iterdir()} for run in (whole, resumed)]
    return None if names[0] == names[1] else f"files: {names[0] ^ names[1]}"


def _trace(directory: RunDirectory) -> Trace:
    return read_trace(directory, tensor_hashes(str(directory.last_checkpoint)))
