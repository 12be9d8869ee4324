"""What a run computed, in a form that can be compared to the bit."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitladder.errors import UserError
from bitladder.runs.directory import RunDirectory
from bitladder.runs.files import read_json
from bitladder.runs.predictions import read_predictions
from bitladder.runs.results import Results
from bitladder.runs.series import Series, read_series

CLOCKS = re.compile(r"(?:^|[/_])(?:latency_ms|time|seconds|throughput|size_bytes)(?:[/_]|$)")
"""Keys of metrics.csv that the clock, or the form of a file, decides."""

RANGES = ("scale", "zero_point")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What one run left that another must leave, too.

    Attributes:
        metrics: Every logged scalar by key, without :data:`CLOCKS`.
        tensors: By part (``weights``, ``quantization``, ``rungs``, ``outputs``) and name:
            a hash with dtype and shape, or the number itself.
    """

    metrics: Mapping[str, Series] = field(default_factory=dict)
    tensors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_trace(directory: RunDirectory, weights: Mapping[str, str]) -> Trace:
    """Read what a completed run left. What is not there is empty.

    Args:
        directory: The run's; nothing in it is executed.
        weights: A hash of each of the run's final weights.

    Raises:
        UserError: If a file is damaged, or is not what a run writes.
    """
    metrics = read_series(directory.metrics) if directory.metrics.is_file() else {}
    return Trace(
        metrics={key: series for key, series in metrics.items() if not CLOCKS.search(key)},
        tensors={
            "weights": weights,
            "quantization": dict(_ranges(directory.quantization)),
            "rungs": dict(_rungs(directory.results)),
            "outputs": dict(_outputs(directory)),
        },
    )


def array_hash(dtype: str, shape: tuple[int, ...], content: bytes) -> str:
    """What two arrays have in common only if they are the same to the bit."""
    return f"{dtype}{list(shape)} sha256 {hashlib.sha256(content).hexdigest()}"


def _rungs(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_file():
        for name, rung in Results.read(path).rungs.items():
            for key, value in rung.metrics.items():
                yield f"{name}/{key}", repr(value)


def _ranges(path: Path) -> Iterator[tuple[str, str]]:
    layers = read_json(path).get("layers") if path.is_file() else []
    if not isinstance(layers, list):
        raise UserError(f"{path}: layers is no list")
    for index, layer in enumerate(layers):
        if not isinstance(layer, dict):
            raise UserError(f"{path}: layers[{index}] is no object")
        yield from _ranges_in(layer, str(layer.get("name", index)))


def _ranges_in(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """The scales and zero points of a layer, wherever they stand in its record."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in RANGES:
                yield f"{where}.{key}", _shown(item)
            else:
                yield from _ranges_in(item, f"{where}.{key}")


def _shown(value: Any) -> str:
    """A number, or many of them by their hash: JSON keeps every bit of a float."""
    if not isinstance(value, list):
        return repr(value)
    content = ",".join(map(repr, value)).encode()
    return f"{len(value)} values, sha256 {hashlib.sha256(content).hexdigest()}"


def _outputs(directory: RunDirectory) -> Iterator[tuple[str, str]]:
    predictions = read_predictions(directory)
    if predictions is not None:
        for name, array in ({"labels": predictions.labels} | predictions.logits).items():
            yield name, array_hash(str(array.dtype), array.shape, array.tobytes())
