"""How real numbers are laid on an integer grid: scale, zero point, and which axis has its own.

The affine map is that of Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference" (CVPR 2018): ``real = scale * (code - zero_point)``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bitladder.formats import INT8, UINT8, IntegerFormat

# A range of exactly zero must still give a usable scale.
SMALLEST_SCALE = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Scheme:
    """An integer grid over real numbers.

    Args:
        format: The integer format of the codes.
        symmetric: ``True`` puts zero in the middle of the grid (zero point 0 for signed codes);
            ``False`` spends the codes on the range that was seen.
        channel_axis: The axis along which every index has a scale of its own; ``None`` for one
            scale for the whole tensor.
    """

    format: IntegerFormat
    symmetric: bool
    channel_axis: int | None = None

    def qparams(self, minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Tensor]:
        """The scale and zero point that cover a range.

        Zero is always representable exactly: padding and ReLU depend on it.

        Args:
            minimum: The smallest values, fp32, shape ``[]`` or ``[channels]``.
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


ACTIVATION = Scheme(UINT8, symmetric=False)
WEIGHT = Scheme(INT8, symmetric=True, channel_axis=0)
