"""What one process does for all of them."""

from collections.abc import Callable
from typing import TypeVar

import lightning as L
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
