"""Linears, an attention's too."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from bitladder.quantization.attention import Projection
from bitladder.quantization.layers.base import QuantizedLayer


class QuantLinear(QuantizedLayer, nn.Linear):
    """:class:`torch.nn.Linear`, quantized on demand."""

    float_type = nn.Linear

    def folds(self, output: Tensor) -> bool:
        """With more than two dimensions the channels of a BatchNorm are not the features."""
        return output.dim() == 2

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``input @ weight.T + bias``."""
        return F.linear(input, weight, bias)


class QuantProjection(QuantLinear, Projection):  # pyright: ignore[reportIncompatibleVariableOverride]
    """The linear that makes an attention's queries, keys or values, quantized on demand."""

    float_type = Projection


class QuantOutProjection(QuantLinear, NonDynamicallyQuantizableLinear):
    """The linear behind an attention, quantized on demand."""

    float_type = NonDynamicallyQuantizableLinear
