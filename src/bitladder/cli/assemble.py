"""From a checked configuration to the objects of a run."""

from dataclasses import dataclass
from typing import Any, TypeVar

import lightning as L

from bitladder.callbacks import LastCheckpoint, Quantization
from bitladder.cli.build import instantiate
from bitladder.cli.checkpoint_io import SealedCheckpointIO
from bitladder.cli.loggers import make_loggers
from bitladder.cli.schema import Config
from bitladder.data.base import ImageDataModule
from bitladder.errors import UserError
from bitladder.precision.base import LadderPrecision
from bitladder.runs import RunDirectory

Part = TypeVar("Part")


@dataclass(frozen=True)
class Parts:
    """What a run is made of, before it has a directory."""

    data: ImageDataModule
    task: L.LightningModule
    precision: LadderPrecision
    quantization: Quantization | None


def assemble(config: Config) -> Parts:
    """Build data, task, precision and quantization. Nothing is written.

    Raises:
        UserError: If a part refuses its arguments, or its data are missing or damaged.
    """
    data, task = data_and_task(config)
    quantization = None
    if config.quantization["method"] != "none":
        quantization = make_quantization(config, task)
    precision = _part(config.precision, "precision", LadderPrecision)
    return Parts(data, task, precision, quantization)


def data_and_task(config: Config) -> tuple[ImageDataModule, L.LightningModule]:
    """Build the data, and the task with its model.

    Raises:
        UserError: If a part refuses its arguments, or the data are missing or damaged.
    """
    data = _part(config.data, "data", ImageDataModule)
    data.prepare_data()
    data.setup("fit")
    net = instantiate(
        config.model, "model", input_shape=data.input_shape, num_classes=data.num_classes
    )
    scheduler = config.scheduler and instantiate(config.scheduler, "scheduler")
    task = _part(
        config.task,
        "task",
        L.LightningModule,
        net=net,
        optimizer=instantiate(config.optimizer, "optimizer"),
        scheduler=scheduler,
        num_classes=data.num_classes,
    )
    return data, task


def make_quantization(config: Config, task: L.LightningModule) -> Quantization:
    """Build the callback that quantizes, if it fits the task.

    Raises:
        UserError: If it refuses its arguments, or its target or a pattern does not fit.
    """
    quantization = _part(config.quantization, "quantization", Quantization)
    quantization.check(task)
    return quantization


def _part(node: dict[str, Any], key: str, kind: type[Part], /, **supplied: Any) -> Part:
    """Build a part that the rest of the program relies on."""
    part = instantiate(node, key, **supplied)
    if not isinstance(part, kind):
        raise UserError(
            f"{key}._target_={node['_target_']} gives a {type(part).__name__}: write what gives a"
            f" {kind.__module__}.{kind.__qualname__}"
        )
    return part


def make_trainer(config: Config, parts: Parts, directory: RunDirectory) -> L.Trainer:
    """The trainer, its callbacks and its loggers, which all write into the run directory."""
    callbacks = []
    for name, node in config.callbacks.items():
        saves = node["_target_"].endswith((".ModelCheckpoint", ".LastCheckpoint"))
        folder = {"dirpath": str(directory.checkpoints)} if saves and "dirpath" not in node else {}
        callbacks.append(instantiate(node, f"callbacks.{name}", **folder))
    callbacks.sort(key=lambda callback: not isinstance(callback, LastCheckpoint))
    if parts.quantization is not None:
        callbacks.append(parts.quantization)
    return instantiate(
        config.trainer,
        "trainer",
        callbacks=callbacks,
        logger=make_loggers(config, directory) or False,
        plugins=[parts.precision, SealedCheckpointIO(directory)],
        default_root_dir=str(directory.path),
    )
