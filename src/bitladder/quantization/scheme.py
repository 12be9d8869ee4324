"""How real numbers are laid on an integer grid: scale, zero point, and what has its own.

The affine map is that of Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference" (CVPR 2018): ``real = scale * (code - zero_point)``.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bitladder.formats import INT8, UINT8, IntegerFormat

# A range of exactly zero must still give a usable scale.
SMALLEST_SCALE = torch.finfo(torch.float32).eps

Per = Literal["tensor", "channel", "group", "token"]


@dataclass(frozen=True)
class Scheme:
    """An integer grid over real numbers.

    Args:
        format: The integer format of the codes.
        symmetric: ``True`` puts zero in the middle of the grid (zero point 0 for signed codes);
            ``False`` spends the codes on the range that was seen.
        per: What has a scale of its own: the ``tensor``; each ``channel``, an index of axis 0; each
            ``group`` of consecutive inputs of a channel; each ``token``, the last axis of an input.
        group_size: The number of inputs in a group, a divisor of their number.
    """

    format: IntegerFormat
    symmetric: bool
    per: Per = "tensor"
    group_size: int | None = None

    @property
    def channel_axis(self) -> int | None:
        """The axis of :meth:`rows` along which each index has its own scale, if there is one."""
        return None if self.per == "tensor" else 0

    def rows(self, x: Tensor) -> Tensor:
        """The tensor in the shape in which it is quantized: what shares a scale in one row.

        Args:
            x: A weight ``[channels, inputs, ...]``, or an input of any shape for ``token``.

        Returns:
            ``[channels * groups, group_size * ...]``, ``[tokens, features]``, or ``x`` as it is.
        """
        if self.per == "token":
            return x.reshape(-1, x.shape[-1])
        if self.per == "group":
            assert self.group_size is not None
            return x.reshape(x.shape[0] * (x.shape[1] // self.group_size), -1)
        return x

    def extremes(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Minimum and maximum of what shares a scale, shape ``[]`` or ``[rows]``."""
        if self.channel_axis is None:
            minimum, maximum = torch.aminmax(rows)
        else:
            minimum, maximum = torch.aminmax(rows.flatten(1), dim=1)
        return minimum, maximum

    def qparams(self, minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Tensor]:
        """The scale and zero point that cover a range.

        Zero is always representable exactly: padding and ReLU depend on it.

        Args:
            minimum: The smallest values, fp32, shape ``[]`` or ``[rows]``.
            maximum: The largest values, of the same shape.

        Returns:
            The scale (fp32) and the zero point (int32), both of the shape of ``minimum``.
        """
        low, high = self.format.minimum, self.format.maximum
        minimum = minimum.float().clamp(max=0.0)
        maximum = maximum.float().clamp(min=0.0)
        if self.symmetric:
            scale = torch.maximum(-minimum, maximum) / ((high - low) / 2)
            scale = scale.clamp(min=SMALLEST_SCALE)
            middle = 0 if self.format.signed else (low + high + 1) // 2
            return scale, torch.full_like(scale, middle, dtype=torch.int32)
        scale = ((maximum - minimum) / (high - low)).clamp(min=SMALLEST_SCALE)
        zero_point = low - torch.round(minimum / scale).to(torch.int32)
        return scale, zero_point.clamp(low, high)

    def __str__(self) -> str:
        """In words, but for the bits: ``symmetric per group of 32``."""
        size = f" of {self.group_size}" if self.per == "group" else ""
        return f"{'symmetric' if self.symmetric else 'affine'} per {self.per}{size}"


ACTIVATION = Scheme(UINT8, symmetric=False)
WEIGHT = Scheme(INT8, symmetric=True, per="channel")
