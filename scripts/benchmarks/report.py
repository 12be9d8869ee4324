"""Times `bitladder report` on a folder of synthetic runs: prints seconds and bytes.

    scripts/bench report
    scripts/bench report --runs 1000 --steps 10000 --out report.json

Each run has what a real one leaves, of a network of 20 layers: configuration, manifest, results,
quantization record, metrics and predictions. Every tenth failed, and every twentieth never ended.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bitladder.runs import Results, RunDirectory, Rung, write_json

PRECISIONS = ("fp32", "bf16", "fp16", "fp8")
QUANTIZATIONS = ("none", "dynamic", "ptq", "qat")
LAYERS = 20
CHANNELS = 128
SAMPLES, CLASSES = 10_000, 10


def make_run(path: Path, index: int, steps: int) -> None:
    """Write one run directory; the same index gives the same."""
    draw = random.Random(index)
    run = RunDirectory(path)
    path.mkdir(parents=True)
    precision = PRECISIONS[index % 4]
    quantization = QUANTIZATIONS[index // 4 % 4]
    seed = index // 16
    choices = {"experiment": "bench", "precision": precision, "quantization": quantization}
    write_json(run.config, {"seed": seed, "choices": choices | {"model": "resnet"}})
    write_json(run.manifest, {"seed": seed, "packages": {"torch": "2.13.0"}, "command": ["bench"]})
    run.metrics.write_text(metrics(draw, steps), encoding="utf-8")
    if index % 20 == 0:
        return
    what: dict[str, Any] = {
        "experiment": "bench",
        "precision": precision,
        "quantization": quantization,
    }
    if index % 10 == 0:
        Results(status="failed", seed=seed, reason="the loss is NaN", **what).write(run.results)
        return
    rungs = {"float": rung(draw, 2_000_000, 4.0)}
    if quantization != "none":
        rungs["int8"] = rung(draw, 600_000, 1.5)
        write_json(run.quantization, record(draw))
    Results(status="completed", seed=seed, rungs=rungs, **what).write(run.results)
    logits = np.random.default_rng(index).normal(size=(2, SAMPLES, CLASSES)).astype(np.float32)
    labels = logits[0].argmax(axis=1)
    np.savez(run.predictions, labels=labels, **dict(zip(rungs, logits, strict=False)))


def metrics(draw: random.Random, steps: int) -> str:
    """A row a step: loss, rate, and at every hundredth the validation."""
    rows = ["step,train/loss_step,lr-AdamW,val/accuracy,val/loss"]
    for step in range(steps):
        validation = f"{draw.random()},{draw.random()}" if step % 100 == 99 else ","
        rows.append(f"{step},{draw.random()},{0.001},{validation}")
    return "\n".join([*rows, ""])


def rung(draw: random.Random, size: int, milliseconds: float) -> Rung:
    """One measured model."""
    accuracy = draw.uniform(0.9, 1.0)
    latency = {"batch_1": milliseconds / 8, "batch_32": milliseconds * draw.uniform(0.9, 1.1)}
    return Rung(metrics={"test/accuracy": accuracy}, size_bytes=size, latency_ms=latency)


def record(draw: random.Random) -> dict[str, object]:
    """A quantization record."""
    layers = [
        {
            "name": f"stages.{index}.conv",
            "type": "Conv2d",
            "quantized": True,
            "kernel": "int8",
            "sqnr_db": draw.uniform(20, 60),
            "local_sqnr_db": draw.uniform(40, 120),
            "multiply_adds": 1000,
            "weight": {
                "bits": 8,
                "scheme": "symmetric per channel",
                "observer": "MinMaxObserver",
                "scale": [draw.random() for _ in range(CHANNELS)],
                "zero_point": [0] * CHANNELS,
            },
            "input": {"bits": 8, "scheme": "affine per tensor", "scale": 0.1, "zero_point": 3},
        }
        for index in range(LAYERS)
    ]
    return {"schema_version": 1, "output_sqnr_db": 40.0, "int8_share": 1.0, "layers": layers}


def measure(path: Path) -> dict[str, float]:
    """Run the command in a fresh process, as a user does."""
    code = "import sys; from bitladder.cli.main import main; sys.exit(main())"
    start, processor = time.perf_counter(), processor_seconds()
    command = [sys.executable, "-c", code, "report", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": processor_seconds() - processor,
        "bytes": (path / "report.html").stat().st_size,
    }


def processor_seconds() -> float:
    """What finished processes computed so far, which others on the machine do not change."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Make the runs, report on all and on one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for index in range(arguments.runs):
            make_run(folder / f"bench-{index:04}", index, arguments.steps)
        figures = {
            f"{arguments.runs} runs of {arguments.steps} steps": measure(folder),
            f"one run of {arguments.steps} steps": measure(folder / f"bench-{9:04}"),
        }
    print("| report of | seconds | processor seconds | size |")
    print("| --- | --- | --- | --- |")
    for name, figure in figures.items():
        times = f"{figure['seconds']:.1f} | {figure['processor_seconds']:.1f}"
        print(f"| {name} | {times} | {figure['bytes'] / 1e6:.2f} MB |")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
