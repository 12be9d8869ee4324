"""Modes: eval for a while, and then every module's own again; which of them can be trained in."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from bitladder.errors import UserError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode inside the block.

    ``model.train()`` afterwards would wake what the user froze: a BatchNorm kept in eval mode while
    the model around it trains.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def require_train_mode(model: nn.Module) -> None:
    """Refuse to train a model that was left in eval mode: no dropout, BatchNorm statistics frozen.

    Parts in eval mode, a frozen backbone for instance, are somebody's intention, and so is a model
    of which no parameter trains.

    Raises:
        UserError: If the whole model is in eval mode and a parameter is to be trained.
    """
    trains = any(parameter.requires_grad for parameter in model.parameters())
    if trains and not any(module.training for module in model.modules()):
        raise UserError(
            f"{type(model).__name__} is in eval mode and would train without dropout and BatchNorm"
            " statistics: call its train() before fit; to keep it so on purpose, freeze it with"
            " requires_grad_(False) or put only parts of it in eval mode"
        )
