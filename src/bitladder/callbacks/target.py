"""Which part of a LightningModule is quantized."""

import lightning as L
import torch
from torch import nn

from bitladder.errors import UserError
from bitladder.patterns import nearest


def find_target(module: L.LightningModule, target: str | None) -> nn.Module:
    """The submodule to quantize.

    Raises:
        UserError: If there is no such submodule, or it must be named.
    """
    if target:
        try:
            return module.get_submodule(target)
        except AttributeError as error:
            names = [name for name, _ in module.named_modules() if name]
            raise UserError(
                f"quantization.target={target!r} is no submodule{nearest(target, names)}"
            ) from error
    if type(module).forward is not L.LightningModule.forward:
        return module
    children = {n: c for n, c in module.named_children() if any(True for _ in c.parameters())}
    if len(children) == 1:
        return next(iter(children.values()))
    raise UserError(
        f"{type(module).__name__} defines no forward and has {len(children)} children with"
        f" parameters ({', '.join(children)}): name the one to quantize with target="
    )


def same_state(model: nn.Module, other: nn.Module) -> bool:
    """Whether two models of one architecture hold the same numbers, on any device."""
    state, expected = model.state_dict(), other.state_dict()
    return all(torch.equal(state[name].cpu().to(x.dtype), x) for name, x in expected.items())
