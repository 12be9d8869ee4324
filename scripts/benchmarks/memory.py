"""Measures the memory of many runs in one process, as of a sweep: prints a table and a slope.

    scripts/bench memory --runs 100 --out memory.json

Each run is a whole ``bitladder train`` of a small MLP; every few also quantizes, compiles and
measures both rungs. After each the resident memory of the process is noted, garbage collected and
the allocator's free pages given back, so that what grows is held by something. The slope is a line
through the second half, in which what is loaded once has been; its error says what noise is.

    scripts/bench memory --runs 100 --sweep

makes them the jobs of a sweep instead, each in a process of its own. The processes that live as
long as the sweep does are noted as each job starts: the sweep's own and those that it keeps, the
largest of which is the server that the jobs are forked off.
"""

import argparse
import ctypes
import gc
import io
import json
import os
import resource
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from bitladder.cli import sweeping, training
from bitladder.cli.job import run_job
from bitladder.cli.main import main as bitladder
from bitladder.sweeps.process import JobProcess, start

SMALL = (
    "data=synthetic", "model=mlp", "model.hidden=[16]", "trainer.max_epochs=1",
    "callbacks.progress=null", "optimizer.lr=0.01",
)  # fmt: skip
MB = 1e6


def run(seed: int, quantization: str, logger: str, runs: Path) -> None:
    """One run. Those without quantization compile nothing, to be fast."""
    chosen = (f"seed={seed}", f"quantization={quantization}", f"logger={logger}")
    measure = training.measure if quantization != "none" else lambda *_: {}
    with (
        patch.object(training, "measure", measure),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        status = bitladder(["train", *SMALL, *chosen, f"paths.runs={runs}"])
    assert status == 0, f"run {seed} ended with {status}"


def fast_job(
    overrides: Sequence[str], folder: str, unfinished: str | None, tell: Callable[[str], None]
) -> int:
    """A job of a sweep that compiles nothing."""
    with patch.object(training, "measure", lambda *_: {}):
        return run_job(overrides, folder, unfinished, tell)


def sweep(runs: int, logger: str, sweeps: Path) -> dict[int, list[float]]:
    """Make runs as jobs, one after another; gives the MB of each process by its number."""
    figures: dict[int, list[float]] = {}

    def begin(function: str, arguments: tuple[Any, ...], log: Path) -> JobProcess:
        for process in (os.getpid(), *children()):
            figures.setdefault(process, []).append(resident(process))
        return start("memory:fast_job", arguments, log)

    chosen = (f"seed=range(1,{runs + 1})", "quantization=none", f"logger={logger}")
    # The server imports this file by its name, and has only the environment to find it with.
    folders = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    found = {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
    with (
        patch.dict(os.environ, found),
        patch.object(sweeping, "start", begin),
        redirect_stdout(io.StringIO()),
    ):
        status = bitladder(["train", "-m", *SMALL, *chosen, f"paths.sweeps={sweeps}"])
    assert status == 0, f"the sweep ended with {status}"
    return figures


def children() -> list[int]:
    """The processes that this one started, whichever of its threads did."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(number) for path in lists for number in path.read_text().split()]


def resident(process: int | None = None) -> float:
    """MB of memory that a process holds; this one gives back first what can be given back."""
    if process in (None, os.getpid()):
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path(f"/proc/{process or 'self'}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MB


def slope(figures: Sequence[float]) -> tuple[float, float]:
    """The slope of the second half, in MB a run, and its standard error."""
    half = np.asarray(figures[len(figures) // 2 :])
    x = np.arange(len(half)) - (len(half) - 1) / 2
    rate = float((x * half).sum() / (x * x).sum())
    left = half - half.mean() - rate * x
    error = float(np.sqrt((left**2).sum() / (len(half) - 2) / (x * x).sum()))
    return rate, error


def main() -> None:
    """Run, note, and fit a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--quantize-every", type=int, default=10, help="0 for none")
    parser.add_argument("--logger", default="csv", help="default has wandb, too")
    parser.add_argument("--sweep", action="store_true", help="jobs of a sweep; none is quantized")
    parser.add_argument("--out", type=Path, help="JSON file to write, after every run")
    arguments = parser.parse_args()
    if arguments.sweep:
        in_sweep(arguments)
    else:
        in_one_process(arguments)


def in_one_process(arguments: argparse.Namespace) -> None:
    """Run after run."""
    figures: list[float] = []
    print("| run | quantization | resident | peak |\n| --- | --- | --- | --- |")
    for seed in range(1, arguments.runs + 1):
        every = arguments.quantize_every
        quantization = "ptq" if every and seed % every == 1 % every else "none"
        with tempfile.TemporaryDirectory() as runs:
            run(seed, quantization, arguments.logger, Path(runs))
        figures.append(resident())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
        print(f"| {seed} | {quantization} | {figures[-1]:.1f} MB | {peak:.0f} MB |", flush=True)
        save(arguments.out, {"resident_mb": figures, "peak_mb": peak})
    if len(figures) >= 8:
        print(f"\n{slope_text(figures)}")


def in_sweep(arguments: argparse.Namespace) -> None:
    """Job after job."""
    with tempfile.TemporaryDirectory() as sweeps:
        figures = sweep(arguments.runs, arguments.logger, Path(sweeps))
    print("| process | job 2 | last job | slope |\n| --- | --- | --- | --- |")
    for process, noted in figures.items():
        name = "sweep" if process == os.getpid() else f"kept, {process}"
        if len(noted) >= 8:  # not a job's
            print(f"| {name} | {noted[1]:.1f} MB | {noted[-1]:.1f} MB | {slope_text(noted)} |")
    save(arguments.out, {"resident_mb": {str(key): noted for key, noted in figures.items()}})


def slope_text(figures: Sequence[float]) -> str:
    """The slope of the second half in words."""
    rate, error = slope(figures)
    return f"{1e3 * rate:+.1f} kB a run, standard error {1e3 * error:.1f}, second half"


def save(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures, if there is somewhere to write them."""
    if path:
        path.write_text(json.dumps({"torch": torch.__version__, **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
