"""Which precision, device, optimizer and strategy go together, known before anything is built.

The precision plugins say themselves what they cannot work with; the rest is Lightning's, PyTorch's
and that of the shipped task and models.
"""

from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import (
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
)
from torch.optim import LBFGS, Optimizer, SparseAdam

from bitladder.cli.build import instantiate
from bitladder.cli.schema import Config
from bitladder.cli.suggest import hint
from bitladder.cli.targets import locate
from bitladder.errors import UserError
from bitladder.precision import LadderPrecision
from bitladder.tasks import Classification

ACCELERATORS = ("auto", "cpu", "cuda", "gpu")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")


def accelerator(config: Config) -> str | None:
    """The precisions run on CPUs and CUDA devices."""
    asked = config.trainer.get("accelerator", "auto")
    if asked not in ACCELERATORS:
        return (
            f"trainer.accelerator={_shown(asked)}: runs go to CPUs and CUDA devices:"
            " write trainer=cpu or trainer=gpu"
        )
    return None


def strategy(config: Config) -> str | None:
    """A strategy must exist, and its processes must give back what they trained."""
    name = config.trainer.get("strategy", "auto")
    if not isinstance(name, dict) and name != "auto" and name not in StrategyRegistry:
        return f"trainer.strategy={name}: there is no such strategy{hint(str(name), STRATEGIES)}"
    kind, arguments = _strategy(config)
    if arguments.get("start_method", "popen") != "popen":
        return (
            f"trainer.strategy={_shown(name)} trains in processes that end with what they learned:"
            " write trainer.strategy=ddp"
        )
    task = locate(config.task["_target_"], "task._target_")
    own = getattr(task, "configure_model", LightningModule.configure_model)
    if issubclass(kind, ModelParallelStrategy) and own is LightningModule.configure_model:
        return (
            f"trainer.strategy={_shown(name)} needs a task that shards its model in"
            f" configure_model, and {task.__name__} does not: write trainer.strategy=ddp"
        )
    return None


def precision(config: Config) -> str | None:
    """What the precision plugin itself refuses: a device, a strategy, an optimizer."""
    plugin = instantiate(config.precision, "precision")
    if not isinstance(plugin, LadderPrecision):
        return None
    try:
        plugin.check_device(_device(config))
        plugin.check_strategy(_strategy(config)[0])
        plugin.check_optimizer(_optimizer(config))
    except UserError as error:
        return str(error)
    return None


def optimizer_of_shipped_parts(config: Config) -> str | None:
    """The shipped task makes two groups of parameters, the shipped models' gradients are dense."""
    kind = _optimizer(config)
    task = locate(config.task["_target_"], "task._target_")
    if issubclass(kind, LBFGS) and task is Classification:
        return (
            f"optimizer._target_={config.optimizer['_target_']} takes one group of parameters, and"
            " the task makes two: write optimizer=adamw or optimizer=sgd"
        )
    shipped = config.model["_target_"].startswith("bitladder.models.")
    if issubclass(kind, SparseAdam) and shipped:
        return (
            f"optimizer._target_={config.optimizer['_target_']} takes sparse gradients, and those"
            " of the model are dense: write optimizer=adamw or optimizer=sgd"
        )
    return None


def optimizer_kernels(config: Config) -> str | None:
    """PyTorch's optimizers are fused or for each tensor; CUDA graphs capture CUDA alone."""
    if config.optimizer.get("fused") and config.optimizer.get("foreach"):
        return (
            "optimizer.fused=true and optimizer.foreach=true exclude each other: write"
            " optimizer.foreach=null"
        )
    if config.optimizer.get("capturable") and _device(config).type == "cpu":
        return "optimizer.capturable=true needs a CUDA device: write optimizer.capturable=false"
    return None


PAIRINGS: tuple[Callable[[Config], str | None], ...] = (
    accelerator,
    strategy,
    precision,
    optimizer_of_shipped_parts,
    optimizer_kernels,
)


def _device(config: Config) -> torch.device:
    asked = config.trainer.get("accelerator", "auto")
    cuda = asked in ("cuda", "gpu") or (asked == "auto" and torch.cuda.is_available())
    return torch.device("cuda", 0) if cuda else torch.device("cpu")


def _strategy(config: Config) -> tuple[type[Strategy], dict[str, Any]]:
    """The class of the strategy and the arguments it gets."""
    asked = config.trainer.get("strategy", "auto")
    if isinstance(asked, dict):
        kind = locate(asked["_target_"], "trainer.strategy._target_")
        return (kind if isinstance(kind, type) else Strategy), asked
    if asked == "auto":
        return SingleDeviceStrategy, {}
    entry: Any = StrategyRegistry[asked]
    return entry["strategy"], entry["init_params"]


def _optimizer(config: Config) -> type[Optimizer]:
    """The class of the optimizer; of a function that makes one, nothing is known."""
    found = locate(config.optimizer["_target_"], "optimizer._target_")
    return found if isinstance(found, type) else Optimizer


def _shown(value: Any) -> str:
    """A name, or of a node the name of its class."""
    return value["_target_"].rpartition(".")[2] if isinstance(value, dict) else str(value)
