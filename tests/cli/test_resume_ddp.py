"""Two processes: killed together in the middle of an epoch and resumed; run again and compared."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .killed import SMALL, same

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Lightning starts the other process by executing this file again. Compiling the rungs takes
# seconds, and of a run in float it shows nothing here.
PROGRAM = """
import sys
from bitladder.cli import training
from bitladder.cli.main import main

if "UNMEASURED" in __import__("os").environ:
    training.measure = lambda *_: {}
sys.exit(main())
"""
KILLER = """
import os, signal
import lightning as L

class Killer(L.Callback):
    "Kills both processes before a batch, as nothing can be kept from, or signals rank 0."
    def __init__(self, before):
        self.before = before
    def on_train_batch_start(self, trainer, *_):
        done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        if done != self.before or "SIGNAL" not in os.environ or trainer.global_rank:
            return
        number = int(os.environ["SIGNAL"])
        (os.killpg if number == signal.SIGKILL else os.kill)(os.getpid(), number)
"""
TWO = [
    *("trainer.devices=2", "trainer.strategy=ddp", "data.num_samples=200"),
    *("+callbacks.killer._target_=killer.Killer", "+callbacks.killer.before=7"),
]  # 3 batches a rank and epoch


def bitladder(
    folder: Path, *arguments: str, number: int | None = None, measured: bool = False
) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM)
    (folder / "killer.py").write_text(KILLER)
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    environment |= {"SIGNAL": str(number)} if number else {}
    environment |= {} if measured else {"UNMEASURED": "1"}
    return subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
        start_new_session=True,  # a process group that can be killed
    )


def trained(folder: Path, name: str, *arguments: str, number: int | None = None) -> Path:
    measured = "quantization=none" not in arguments
    place = f"paths.runs={folder / name}"
    done = bitladder(
        folder, "train", *SMALL, *TWO, place, *arguments, number=number, measured=measured
    )
    expected = {None: 0, signal.SIGKILL: -signal.SIGKILL}.get(number, 128 + (number or 0))
    assert done.returncode == expected, done.stderr
    (run,) = (folder / name).iterdir()
    if number == signal.SIGTERM:
        (line,) = done.stderr.strip().splitlines()
        go_on = f"bitladder resume {run} 'allow=[killer]'"
        assert line == f"bitladder: interrupted; go on with: {go_on}"
    return run


@pytest.mark.parametrize(
    ("quantization", "number"),
    [
        ("none", signal.SIGKILL),
        ("none", signal.SIGTERM),
        ("ptq", signal.SIGKILL),
        ("qat", signal.SIGKILL),
    ],
)
def test_two_killed_processes_go_on_to_the_same_end(
    tmp_path: Path, quantization: str, number: int
) -> None:
    pair = f"quantization={quantization}"
    run = trained(tmp_path, "killed", pair, number=number)
    measured = quantization != "none"
    done = bitladder(tmp_path, "resume", str(run), "allow=[killer]", measured=measured)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("going on from") == 1
    # When SIGTERM comes, the checkpoint before the batch is there already: the next one follows.
    step = 7 if number == signal.SIGKILL else 8
    assert f"step {step}\n" in done.stdout
    same(run, trained(tmp_path, "whole", pair))


@pytest.mark.parametrize("quantization", ["none", "qat"])
def test_two_processes_repeat_a_run_to_the_bit(tmp_path: Path, quantization: str) -> None:
    run = trained(tmp_path, "first", f"quantization={quantization}")
    again = ["reproduce", str(run), "allow=[killer]", f"paths.runs={tmp_path / 'again'}"]
    done = bitladder(tmp_path, *again, measured=quantization != "none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "identical"
    assert done.stdout.count("identical") == 1
