"""Transposed convolutions over time and images."""

from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from bitladder.quantization.layers.convolution import QuantChannelsFirst


class QuantTransposed(QuantChannelsFirst, _ConvTransposeNd):
    """What transposed convolutions share.

    Their parameter has the input channels first, ``[in, out / groups, *kernel]``: for one scale an
    output channel it is quantized as ``[out, in / groups, *kernel]``.
    """

    transpose: ClassVar[Callable[..., Tensor]]

    @classmethod
    def inputs(cls, layer: nn.Module) -> int:
        """Its parameter has the inputs of all groups first."""
        assert isinstance(layer, _ConvTransposeNd)
        return layer.in_channels // layer.groups

    def outputs_first(self, weight: Tensor) -> Tensor:
        """``[in, out / groups, *kernel]`` to ``[out, in / groups, *kernel]``."""
        return _swap(weight, self.groups)

    def as_held(self, weight: Tensor) -> Tensor:
        """``[out, in / groups, *kernel]`` to ``[in, out / groups, *kernel]``."""
        return _swap(weight, self.groups)

    def extra(self, input: Tensor, output_size: list[int] | None) -> list[int]:
        """How many positions the output has at its end beyond the smallest, by dimension."""
        rank = len(self.kernel_size)
        return self._output_padding(
            input,
            output_size,
            list(self.stride),
            [int(padding) for padding in self.padding],
            list(self.kernel_size),
            rank,
            list(self.dilation),
        )

    def compute(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        output_size: list[int] | None = None,
    ) -> Tensor:
        """The transposed convolution with this layer's stride, padding, dilation and groups."""
        return type(self).transpose(
            input,
            weight,
            bias,
            self.stride,
            self.padding,
            self.extra(input, output_size),
            self.groups,
            self.dilation,
        )


class QuantConvTranspose1d(QuantTransposed, nn.ConvTranspose1d):
    """:class:`torch.nn.ConvTranspose1d`, quantized on demand."""

    float_type = nn.ConvTranspose1d
    transpose = F.conv_transpose1d


class QuantConvTranspose2d(QuantTransposed, nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d`, quantized on demand."""

    float_type = nn.ConvTranspose2d
    transpose = F.conv_transpose2d


def _swap(weight: Tensor, groups: int) -> Tensor:
    """Exchange inputs and outputs within each group; doing it twice changes nothing."""
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
