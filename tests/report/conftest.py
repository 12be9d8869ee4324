import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitladder.runs import Results, RunDirectory, Rung, RunRecord, write_json

HOSTILE = '<script>document.title="hacked"</script><b>&amp;"\''
"""A name that would be markup if it were not escaped."""

Make = Callable[..., RunRecord]


def layer(name: str, **changes: Any) -> dict[str, Any]:
    grid = {"bits": 8, "scheme": "affine per tensor", "scale": 0.1, "zero_point": 128}
    return {
        "name": name,
        "type": "Conv2d",
        "quantized": True,
        "reason": None,
        "kernel": "int8",
        "kernel_reason": None,
        "sqnr_db": 40.0,
        "local_sqnr_db": 60.0,
        "multiply_adds": 100,
        "weight": {"bits": 8, "scheme": "symmetric per channel", "observer": "MinMaxObserver"},
        "input": grid,
    } | changes


def left(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "type": "LSTM", "quantized": False, "reason": reason}


def metrics_csv(steps: int, **values: Callable[[int], float]) -> str:
    rows = [
        ",".join([str(step), *(repr(value(step)) for value in values.values())])
        for step in range(steps)
    ]
    return "\n".join([",".join(["step", *values]), *rows, ""])


@pytest.fixture
def run(tmp_path: Path) -> Make:
    """A completed run, written file by file and read back: run("name", seed=2, files={...})."""

    def make(name: str = "digits-fp32-qat-s1-20261122-204500", **changes: Any) -> RunRecord:
        directory = RunDirectory(tmp_path / "runs" / name)
        directory.path.mkdir(parents=True)
        write_run(directory, **changes)
        return RunRecord.read(directory.path)

    return make


def write_run(
    directory: RunDirectory,
    *,
    seed: int = 1,
    int8: bool = True,
    accuracy: float = 0.75,
    steps: int = 20,
    results: bool = True,
) -> None:
    """Everything that a run leaves, but for checkpoints and artifacts; 4 samples, 3 classes."""
    quantization = "qat" if int8 else "none"
    config = {
        "seed": seed,
        "choices": {"experiment": "digits", "precision": "fp32", "quantization": quantization},
        "model": {"name": HOSTILE},
    }
    directory.config.write_text(json.dumps(config))  # JSON is YAML, too
    write_json(directory.manifest, {"command": ["bitladder", "train"], "packages": {"torch": "2"}})
    text = metrics_csv(steps, **{"train/loss": lambda step: 1 / (step + 1), "val/accuracy": float})
    directory.metrics.write_text(text)
    rungs = {"float": Rung(metrics={"test/accuracy": 1.0}, size_bytes=4000, latency_ms=latency(2))}
    logits = {"float": np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]}
    if int8:
        layers = [layer("stem"), left("norm", "folded into stem"), left("rnn", "no int8 kernel")]
        write_json(directory.quantization, {"output_sqnr_db": 30.0, "layers": layers})
        metrics = {"test/accuracy": accuracy}
        rungs["int8"] = Rung(metrics=metrics, size_bytes=1000, latency_ms=latency(1))
        logits["int8"] = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    np.savez(directory.predictions, allow_pickle=False, labels=np.array([0, 1, 2, 1]), **logits)
    if results:
        Results(
            status="completed",
            experiment="digits",
            precision="fp32",
            quantization=quantization,
            seed=seed,
            rungs=rungs,
        ).write(directory.results)


def latency(factor: float) -> dict[str, float]:
    return {"batch_1": 0.5 * factor, "batch_32": 2.0 * factor}
