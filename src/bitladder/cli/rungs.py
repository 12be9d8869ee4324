"""Measuring the rungs: each model as the file that would be shipped."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bitladder.callbacks.calibration import calibration_batches
from bitladder.callbacks.finite_guard import FiniteGuard
from bitladder.callbacks.forwarding import forwarded
from bitladder.cli.assemble import Parts
from bitladder.data.base import ImageDataModule
from bitladder.errors import RunError
from bitladder.precision import Fp32Precision
from bitladder.quantization import Call, export, float_copy
from bitladder.runs import RunDirectory, Rung, sha256, write_atomic
from bitladder.runs.latency import latencies_ms

MOST_SAMPLES = 64
"""Images kept of those on which the rungs differ."""

LARGEST_SIDE = 96
"""Pixels of an image that is kept; larger ones are made smaller."""


@dataclass(frozen=True)
class Model:
    """A compiled model to measure."""

    path: Path
    run: Callable[..., Any]
    """Takes and gives fp32 on the CPU."""
    shipped: bool
    """Whether the file is one of the run's, or was made for the comparison."""


def measure(parts: Parts, directory: RunDirectory, examples: Sequence[Call]) -> dict[str, Rung]:
    """Compile, test and time the float model, and the int8 model if there is one.

    Both run as compiled packages on the CPU, on the test split, which nothing has touched before.
    Their logits are kept in ``predictions.npz``.

    Args:
        parts: The parts of the run, trained.
        directory: Where to write.
        examples: From :func:`example_calls`.

    Raises:
        UserError: If the model cannot be exported.
        RunError: If a compiled model does not compute what the model does.
    """
    models = _compiled(parts, directory, examples)
    target = parts.quantization.model if parts.quantization else parts.task.get_submodule("net")
    rungs, logits = measure_models(models, examples[0], target, parts.task, parts.data)
    labels = torch.cat([y for _, y in parts.data.test_dataloader()]).numpy()
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, labels=labels, **logits)
    write_atomic(directory.predictions, content.getvalue())
    if {"float", "int8"} <= logits.keys():
        write_differing(directory, logits["float"], logits["int8"], parts.data)
    return rungs


def write_differing(
    directory: RunDirectory, float_says: np.ndarray, int8_says: np.ndarray, data: ImageDataModule
) -> None:
    """Keep the first images on which the rungs answer differently, for the report to show.

    Args:
        directory: The run's.
        float_says: Logits ``[samples, classes]`` on the test split.
        int8_says: Likewise.
        data: Its test split, in the same order; images ``[N, channels, height, width]``.
    """
    differ = np.flatnonzero(float_says.argmax(1) != int8_says.argmax(1))[:MOST_SAMPLES]
    if not len(differ):
        return
    images = torch.cat([x for x, _ in data.test_dataloader()])[torch.from_numpy(differ)]
    largest = max(images.shape[2:])
    if largest > LARGEST_SIDE:
        size = [max(1, side * LARGEST_SIDE // largest) for side in images.shape[2:]]
        images = F.interpolate(images, size=size, mode="area")
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    shades = (images - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
    content = io.BytesIO()
    pixels = (255 * shades).round().to(torch.uint8).numpy()
    np.savez_compressed(content, allow_pickle=False, index=differ, images=pixels)
    write_atomic(directory.samples, content.getvalue())


def measure_models(
    models: dict[str, Model],
    example: Call,
    target: nn.Module,
    task: L.LightningModule,
    data: ImageDataModule,
) -> tuple[dict[str, Rung], dict[str, np.ndarray]]:
    """Test and time compiled models on the CPU.

    Args:
        models: The models by name.
        example: Arguments of one call.
        target: The module in the task whose place each of them takes.
        task: Tests them.
        data: Its test split is tested on.

    Returns:
        A rung a model, and its logits ``[samples, classes]`` on the test split.
    """
    latency = latencies_ms({n: m.run for n, m in models.items()}, example.args, example.kwargs)
    tester = cpu_trainer(logger=False)
    rungs: dict[str, Rung] = {}
    logits: dict[str, np.ndarray] = {}
    task = task.float()
    for name, model in models.items():
        with forwarded(target, model.run):
            (metrics,) = tester.test(task, datamodule=data, verbose=False)
            outputs = tester.predict(task, data.test_dataloader())
        assert outputs is not None
        logits[name] = torch.cat([x for x in outputs if isinstance(x, torch.Tensor)]).numpy()
        if (bad := np.isnan(logits[name]).any(1)).any():
            raise RunError(f"the {name} model gives NaN for test sample {bad.argmax()}")
        rungs[name] = Rung(
            metrics={key: float(value) for key, value in metrics.items()},
            size_bytes=model.path.stat().st_size,
            latency_ms=latency[name],
            artifact=model.path.name if model.shipped else None,
            sha256=sha256(model.path),
        )
    return rungs, logits


def cpu_trainer(**options: Any) -> L.Trainer:
    """A trainer that trains nothing, in fp32 on the CPU, and is silent."""
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[Fp32Precision()],
        callbacks=[FiniteGuard()],
        **options,
    )


def example_calls(trainer: L.Trainer, parts: Parts) -> list[Call]:
    """Real arguments of the model; every rank must ask for them, as each has its own data."""
    if parts.quantization is None:
        (batch,) = calibration_batches(trainer, 1)
        return [Call((batch[0],), {})]
    return parts.quantization.examples


def _compiled(parts: Parts, directory: RunDirectory, examples: Sequence[Call]) -> dict[str, Model]:
    quantization = parts.quantization
    if quantization is None:
        model = float_copy(parts.task.get_submodule("net"))
    else:
        assert quantization.float_model is not None
        model = quantization.float_model
    path = directory.float_artifact
    models = {"float": Model(path, export(model, examples, path), shipped=False)}
    if quantization is not None:
        assert quantization.deployment is not None
        deployment = quantization.deployment
        models["int8"] = Model(deployment.path, deployment.run, shipped=True)
    return models
