"""The loggers of a run: where each writes, and what it calls the run."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from bitladder.cli.build import instantiate
from bitladder.cli.guard import GuardedLogger
from bitladder.cli.logs import last_wandb_run
from bitladder.cli.mlflow_store import open_mlflow
from bitladder.cli.schema import Config, Node
from bitladder.cli.tensorboard_run import GuardedTensorBoard
from bitladder.cli.wandb_run import open_wandb
from bitladder.runs import RunDirectory
from bitladder.runs.sweep_directory import SweepDirectory

Place = Callable[[Config, RunDirectory], dict[str, Any]]


def make_loggers(config: Config, directory: RunDirectory) -> list[Logger]:
    """Build the loggers of a configuration, each opened, so that what is wrong shows at once.

    The CSV is the one record that a run cannot do without, so its failure is the run's. Every
    other logger is guarded.

    Raises:
        UserError: If a logger refuses its arguments or its store cannot be opened.
    """
    return [_make(name, node, config, directory) for name, node in config.logger.items()]


def _make(name: str, node: Node, config: Config, directory: RunDirectory) -> Logger:
    kind, where = node["_target_"].rpartition(".")[2], f"logger.{name}"
    place = PLACES.get(kind, _by_name)(config, directory)
    supplied = {key: value for key, value in place.items() if key not in node}
    if kind == "CSVLogger":
        return instantiate(node, where, **supplied)
    if kind == "WandbLogger":
        return open_wandb(node, where, supplied)
    if kind == "MLFlowLogger":
        return open_mlflow(node, where, supplied, Path(config.paths.get("mlflow", "mlflow")))
    guarded = GuardedTensorBoard if kind == "TensorBoardLogger" else GuardedLogger
    return guarded(where, instantiate(node, where, **supplied))


def sweep_of(config: Config) -> str | None:
    """The name of the sweep whose folder the run goes to, if it is a part of one."""
    folder = Path(config.paths["runs"]).resolve()
    ours = SweepDirectory(folder).plan.is_file()
    # Hydra's own sweepers leave no plan.
    return folder.name if ours or folder.parent == Path(config.paths["sweeps"]).resolve() else None


def _by_name(config: Config, directory: RunDirectory) -> dict[str, Any]:
    return {"save_dir": str(directory.path), "name": directory.path.name}


def _csv(config: Config, directory: RunDirectory) -> dict[str, Any]:
    return {"save_dir": str(directory.path), "name": "", "version": ""}


def _tensorboard(config: Config, directory: RunDirectory) -> dict[str, Any]:
    folder = directory.tensorboard
    return {"save_dir": str(folder.parent), "name": folder.name, "version": ""}


def _wandb(config: Config, directory: RunDirectory) -> dict[str, Any]:
    tags = [config.precision_name, config.quantization_name]
    place = _by_name(config, directory) | {"tags": tags, "job_type": "train"}
    if (sweep := sweep_of(config)) is not None:
        # An id of its own, whatever WANDB_RUN_ID says: the sweep's other runs would go on in it.
        place |= {"group": sweep, "id": secrets.token_hex(4)}
    if (run := last_wandb_run(directory)) is not None:
        place |= {"id": run, "resume": "allow"}
    return place


def _mlflow(config: Config, directory: RunDirectory) -> dict[str, Any]:
    tags = {"precision": config.precision_name, "quantization": config.quantization_name}
    if (sweep := sweep_of(config)) is not None:
        tags["sweep"] = sweep
    return {"run_name": directory.path.name, "tags": tags}


PLACES: dict[str, Place] = {
    "CSVLogger": _csv,
    "TensorBoardLogger": _tensorboard,
    "WandbLogger": _wandb,
    "MLFlowLogger": _mlflow,
}
"""What the program fills in by class, as far as the user did not say so."""
