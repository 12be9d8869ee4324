"""Runs that are killed or signalled, and what it means that two runs are the same."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from bitladder.cli.main import main

BRIEF = [
    "model=mlp",
    "model.hidden=[16]",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
    "optimizer.lr=0.01",
    "callbacks.progress=null",
    "callbacks.last_checkpoint.every_n_steps=1",
    "logger=csv",
]
SMALL = ["data=synthetic", "data.num_samples=100", *BRIEF]  # 3 batches an epoch
PLAIN = ["quantization=none"]


def train(folder: Path, *arguments: str, status: int = 0) -> Path:
    small = BRIEF if any(x.startswith("data=") for x in arguments) else SMALL
    assert main(["train", *small, f"paths.runs={folder}", *arguments]) == status
    (directory,) = folder.iterdir()
    return directory


def same(run: Path, other: Path) -> None:
    """Two runs have the same weights, metrics, results, ranges and answers, to the bit.

    Not the same files: the compiler's have other names of temporary folders in them.
    """
    weights, others = (
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (run, other)
    )
    assert weights["state_dict"].keys() == others["state_dict"].keys()
    for name, value in weights["state_dict"].items():
        assert torch.equal(value, others["state_dict"][name]), name
    assert weights["global_step"] == others["global_step"]
    assert rows(run) == rows(other)
    results, beside = (json.loads((path / "results.json").read_text()) for path in (run, other))
    for result in (results, beside):
        del result["artifacts"]
        for rung in result["rungs"].values():
            del rung["latency_ms"], rung["size_bytes"], rung["sha256"]
    assert results == beside
    for name in ("quantization.json", "predictions.npz"):
        assert (run / name).exists() == (other / name).exists(), name
    if (run / "quantization.json").exists():
        layers, others = (
            json.loads((path / "quantization.json").read_text())["layers"] for path in (run, other)
        )
        assert layers == others
    if (run / "predictions.npz").exists():
        with np.load(run / "predictions.npz") as one, np.load(other / "predictions.npz") as two:
            assert one.files == two.files
            for name in one.files:
                assert one[name].tobytes() == two[name].tobytes(), name


def rows(run: Path) -> list[str]:
    lines = (run / "metrics.csv").read_text().splitlines()
    return [line for line in lines[1:] if "latency" not in lines[0]] or lines[:-1]


KILLER = """
import os, signal, subprocess
import lightning as L

class Killer(L.Callback):
    "Kills before a batch or in another hook, as nothing can be kept from, or signals."
    def __init__(self, before, hook="on_train_batch_start"):
        self.before = before
        setattr(self, hook, self.kill)
    def kill(self, trainer, *_):
        done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        if done >= self.before and "SIGNAL" in os.environ:
            number = int(os.environ.pop("SIGNAL"))
            if "GROUP" in os.environ:
                # From another process: what a worker's parent tells it, it does.
                command = ["kill", f"-{number}", "--", f"-{os.getpgrp()}"]
                subprocess.run(command, check=True, start_new_session=True)
            else:
                os.kill(os.getpid(), number)
"""


def in_a_process(
    folder: Path,
    arguments: list[str],
    number: int | None = None,
    *,
    measured: bool = True,
    group: bool = False,
) -> tuple[int, str, str]:
    (folder / "killer.py").write_text(KILLER)
    # Compiling the rungs takes seconds, and of a run in float it shows nothing here.
    unmeasured = "training.measure = lambda *_: {}" if not measured else "pass"
    program = (
        f"import sys; from bitladder.cli import training; {unmeasured};"
        " from bitladder.cli.main import main; sys.exit(main())"
    )
    environment = os.environ | {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
    environment |= {"SIGNAL": str(number)} if number else {}
    environment |= {"GROUP": "1"} if group else {}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=580,
        env=environment,
        start_new_session=group,
    )
    return done.returncode, done.stdout, done.stderr.strip()


def kill_and_resume(
    tmp_path: Path,
    number: int,
    before: int,
    *arguments: str,
    hook: str = "on_train_batch_start",
    group: bool = False,
) -> tuple[Path, Path]:
    """A run that got a signal and was resumed, and the run that got none.

    Args:
        tmp_path: Where both are made.
        number: The signal.
        before: How many batches are trained when it comes.
        arguments: What to train.
        hook: In which hook of a callback's it comes.
        group: Whether all processes of the run get it.
    """
    killer = [
        "+callbacks.killer._target_=killer.Killer",
        f"+callbacks.killer.before={before}",
        f"+callbacks.killer.hook={hook}",
    ]
    measured = "quantization=none" not in arguments
    runs = []
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        place = f"paths.runs={tmp_path / name / 'runs'}"
        sent = number if name == "killed" else None
        status, _, error = in_a_process(
            tmp_path,
            ["train", *SMALL, *killer, place, *arguments],
            sent,
            measured=measured,
            group=group,
        )
        (run,) = (tmp_path / name / "runs").iterdir()
        runs.append(run)
        if sent is None:
            assert status == 0, error
        elif sent == signal.SIGKILL:
            assert status == -sent
        else:
            assert status == 128 + sent, error
            go_on = f"bitladder resume {run} 'allow=[killer]'"
            assert error == f"bitladder: interrupted; go on with: {go_on}"
            saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
            assert saved["global_step"] >= before
    again = ["resume", str(runs[0]), "allow=[killer]"]
    status, _, error = in_a_process(tmp_path, again, measured=measured)
    assert status == 0, error
    return runs[0], runs[1]
