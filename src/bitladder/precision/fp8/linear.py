"""The fp8 linear: a linear that computes in fp8 while it trains, and in bf16 otherwise."""

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitladder.precision.fp8.report import LinearRecord, Seen
from bitladder.precision.fp8.upstream import Float8Linear, Float8LinearConfig

ALIGNMENT = 16
"""`torch._scaled_mm` takes inner sizes that are multiples of this."""

# Needs no more of `self` than a linear's parameters and torchao's two settings.
_FLOAT8_FORWARD: Callable[[Any, Tensor], Tensor] = Float8Linear.forward

Mode = Literal["fp8", "watch", "bf16"]
"""What a training pass does: compute in fp8, or in bf16 and note how it was called, or in bf16."""


class Fp8Linear(nn.Linear):
    """:class:`torch.nn.Linear` whose three products of a training step run in fp8.

    Input, weight and output gradient are scaled by their own largest value and rounded to fp8 as
    they come (torchao's `Float8Linear`; Micikevicius et al., "FP8 Formats for Deep Learning",
    arXiv:2209.05433). Outside training, or without gradients, it is the linear that it was.

    A linear becomes one by changing its class in place: the module object, its parameters and their
    names, its hooks, its flags and every other reference to it stay. A subclass of `nn.Linear` may
    have a property `computes_float`, true while its forward is that of `nn.Linear` (bitladder's
    twins for quantization do); it then becomes a subclass of both.
    """

    fp8_base: ClassVar[type[nn.Linear]] = nn.Linear
    config: Float8LinearConfig
    linear_mm_config: Any
    fp8_record: LinearRecord
    fp8_mode: Mode

    @staticmethod
    def takes(kind: type[nn.Linear]) -> bool:
        """Whether linears of exactly this class can become fp8 ones."""
        return kind is nn.Linear or hasattr(kind, "computes_float")

    @staticmethod
    def adopt(layer: nn.Linear, settings: Any, record: LinearRecord) -> "Fp8Linear":
        """Turn `layer`, of a class that it `takes`, into an fp8 one, in place.

        Args:
            layer: The linear.
            settings: What has torchao's `config` and `linear_mm_config`: a template of torchao's or
                another fp8 linear.
            record: What becomes of it is noted here.
        """
        layer.__class__ = _fp8_class(type(layer))
        assert isinstance(layer, Fp8Linear)
        layer.config = settings.config
        layer.linear_mm_config = settings.linear_mm_config
        layer.fp8_record = record
        layer.fp8_mode = "fp8"
        return layer

    def release(self) -> None:
        """Be what it was before `adopt` again."""
        for name in ("config", "linear_mm_config", "fp8_record", "fp8_mode"):
            delattr(self, name)
        layer: Any = self
        layer.__class__ = self.fp8_base

    def forward(self, input: Tensor) -> Tensor:
        """`input @ weight.T + bias`, shape `[..., in_features]` to `[..., out_features]`."""
        tokens = input.numel() // self.in_features
        trains = self.training and torch.is_grad_enabled() and tokens
        if self.fp8_mode == "bf16" or not trains or not getattr(self, "computes_float", True):
            return super().forward(input)
        # Written in the forward pass itself, because torch.compile repeats such a write at every
        # call, also where one compiled block serves several layers.
        if self.fp8_mode == "watch":
            self.fp8_record.seen = Seen(tokens, input.dtype, torch.compiler.is_compiling())
            return super().forward(input)
        self.fp8_record.executed = True
        if input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            input = input.to(torch.get_autocast_dtype("cpu"))  # torchao does it for CUDA alone
        padding = -tokens % ALIGNMENT
        if not padding:
            return _FLOAT8_FORWARD(self, input)
        # Tokens are the inner size of the weight gradient's product. Rows of zeros change no scale
        # and no sum.
        rows = F.pad(input.reshape(tokens, self.in_features), (0, 0, 0, padding))
        return _FLOAT8_FORWARD(self, rows)[:tokens].reshape(*input.shape[:-1], self.out_features)


@cache
def _fp8_class(base: type[nn.Linear]) -> type[Fp8Linear]:
    if base is nn.Linear:
        return Fp8Linear
    return type(f"Fp8{base.__name__}", (Fp8Linear, base), {"fp8_base": base})


def fp8_linears(model: nn.Module) -> dict[str, Fp8Linear]:
    """The fp8 linears of a model by name, each shared one once."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Fp8Linear)}
