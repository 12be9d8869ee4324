"""The int8 linear."""

import torch.nn.functional as F
from torch import Tensor

from bitladder.quantization.reference.base import ReferenceLayer


class ReferenceLinear(ReferenceLayer):
    """``input @ weight.T + bias`` on rounded operands."""

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``, fp32."""
        input = input.contiguous()  # Inductor has no int8 kernel for a transposed one
        return F.linear(self.rounded(input), self.weight, self.bias)
