"""Measures the memory of many runs in one process, as of a sweep: prints a table and a slope.

    scripts/bench memory --runs 100 --out memory.json

Each run is a whole ``bitladder train`` of a small MLP; every few also quantizes, compiles and
measures both rungs. After each the resident memory of the process is noted, garbage collected and
the allocator's free pages given back, so that what grows is held by something. The slope is a line
through the second half, in which what is loaded once has been; its error says what noise is.
"""

import argparse
import ctypes
import gc
import io
import json
import resource
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from bitladder.cli import training
from bitladder.cli.main import main as bitladder

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


def resident() -> float:
    """MB of memory that the process holds, with all that can be given back given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
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
    parser.add_argument("--out", type=Path, help="JSON file to write, after every run")
    arguments = parser.parse_args()
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
        if arguments.out:
            saved = {"torch": torch.__version__, "resident_mb": figures, "peak_mb": peak}
            arguments.out.write_text(json.dumps(saved, indent=2) + "\n")
    if len(figures) >= 8:
        rate, error = slope(figures)
        print(f"\n{1e3 * rate:+.1f} kB a run, standard error {1e3 * error:.1f}, second half")


if __name__ == "__main__":
    main()
