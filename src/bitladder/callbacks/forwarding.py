"""Sending a module's forward elsewhere for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bitladder.quantization.trees import on_cpu, tensors


def send_forward(module: nn.Module, run: Callable[..., Any]) -> None:
    """Let ``module(...)`` call ``run``, which takes and gives fp32 on the CPU.

    Parameters, hooks and the ``state_dict`` stay as they are. Inputs are moved to the CPU and
    outputs back to where the first input was.
    """

    def forward(*args: Any, **kwargs: Any) -> Any:
        inputs = tensors((args, kwargs))
        device = inputs[0].device if inputs else torch.device("cpu")
        args, kwargs = on_cpu((args, kwargs))
        # The compiled model needs no autocast, and must not be given one.
        with torch.autocast(device.type, enabled=False):
            outputs = run(*args, **kwargs)
        return pytree.tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, outputs)

    module.__dict__["forward"] = forward


def restore_forward(module: nn.Module) -> None:
    """Undo :func:`send_forward`; without effect if nothing was sent."""
    module.__dict__.pop("forward", None)


@contextmanager
def forwarded(module: nn.Module, run: Callable[..., Any]) -> Iterator[None]:
    """:func:`send_forward` for the time of the block."""
    before = module.__dict__.get("forward")
    send_forward(module, run)
    try:
        yield
    finally:
        restore_forward(module)
        if before is not None:
            module.__dict__["forward"] = before
