"""Modules whose state stays fp32 and outside the model's ``state_dict``."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn


class Float32State(nn.Module):
    """A module whose buffers are non-persistent and never leave fp32.

    Ranges and scales are measurements, not parameters. They stay out of the ``state_dict`` so that
    a float checkpoint fits a prepared model and the other way round, and ``module.to(bfloat16)``
    must not round them: a scale in bf16 is wrong by up to 0.4%.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def to_device_only(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(to_device_only, recurse)

    def state(self) -> dict[str, Tensor]:
        """Every buffer below this module, by name, on the CPU."""
        return {name: buffer.detach().cpu().clone() for name, buffer in self.named_buffers()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; shapes may differ from the fresh module's.

        Raises:
            KeyError: If the state lacks a buffer of this module.
        """
        for name, buffer in list(self.named_buffers()):
            owner_name, _, leaf = name.rpartition(".")
            owner = self.get_submodule(owner_name)
            setattr(owner, leaf, state[name].to(device=buffer.device, dtype=buffer.dtype))
