"""What one process does for all of them."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import lightning as L
import torch.distributed as dist
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from bitladder.errors import RankZeroError, UserError

Result = TypeVar("Result")


def on_rank_zero(trainer: L.Trainer, action: Callable[[], Result]) -> Result | None:
    """Do something on rank 0 while the others wait; every rank must call this.

    Returns:
        What ``action`` gave on rank 0, ``None`` on the others.

    Raises:
        Exception: On rank 0, whatever ``action`` raised.
        RankZeroError: On the others, if ``action`` raised: they would wait for ever else.
    """
    result, error = None, None
    if trainer.is_global_zero:
        try:
            result = action()
        except Exception as raised:
            error = raised
    told = trainer.strategy.broadcast(None if error is None else str(error) or repr(error))
    if error is not None:
        raise error
    if told is not None:
        raise RankZeroError(told)
    return result


def of_every_rank(trainer: L.Trainer, part: Result) -> list[Result]:
    """What every rank has, in their order, on each; every rank must call this.

    Args:
        trainer: Of all of them.
        part: This rank's: plain containers, and tensors on the CPU.
    """
    if trainer.world_size == 1:
        return [part]
    parts: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(parts, part)
    return parts


def own_part(trainer: L.Trainer, parts: Sequence[Result]) -> Result:
    """This rank's of what :func:`of_every_rank` gave, in a checkpoint.

    Where there were more processes or fewer than there are now, it is the first one's, and a
    warning says so.
    """
    if len(parts) == trainer.world_size:
        return parts[trainer.global_rank]
    warnings.warn(
        f"the checkpoint is of {len(parts)} processes and these are {trainer.world_size}: training"
        " goes on, but not to the same end",
        stacklevel=1,  # several callbacks ask, and once is enough
    )
    return parts[0]


def require_whole_model(trainer: L.Trainer) -> None:
    """Refuse strategies under which no process has all of the trained model.

    Raises:
        UserError: If there is none, or it would end with a process that only trained.
    """
    strategy = trainer.strategy
    if isinstance(strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
        raise UserError(
            f"Quantization needs whole weights, but {type(strategy).__name__} gives each rank"
            " parts of them: write strategy='ddp'"
        )
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            "Quantization leaves its int8 model in processes that end with the training: write"
            " strategy='ddp', not one that spawns or forks"
        )
