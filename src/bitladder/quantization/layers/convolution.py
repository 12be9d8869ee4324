"""Convolutions over time, images and volumes; grouped and depthwise ones too."""

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bitladder.quantization.layers.base import QuantizedLayer


class QuantChannelsFirst(QuantizedLayer, _ConvNd):
    """What convolutions and transposed convolutions share."""

    takes_dynamic_input = False

    def folds(self, output: Tensor) -> bool:
        """A BatchNorm takes a sample without a batch for a batch without positions."""
        return output.dim() == self.weight.dim()


class QuantConvolution(QuantChannelsFirst):
    """What convolutions share."""

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with this layer's stride, padding, dilation and groups."""
        return self._conv_forward(input, weight, bias)  # pyright: ignore[reportCallIssue]


class QuantConv1d(QuantConvolution, nn.Conv1d):
    """:class:`torch.nn.Conv1d`, quantized on demand."""

    float_type = nn.Conv1d


class QuantConv2d(QuantConvolution, nn.Conv2d):
    """:class:`torch.nn.Conv2d`, quantized on demand."""

    float_type = nn.Conv2d


class QuantConv3d(QuantConvolution, nn.Conv3d):
    """:class:`torch.nn.Conv3d`, quantized on demand."""

    float_type = nn.Conv3d

    @property
    def why_weight_only(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A depthwise one, whose images have a few channels a group, was 12 times slower in int8."""
        depthwise = 1 < self.groups == self.in_channels
        return "int8 kernels are slower than float for a depthwise Conv3d" if depthwise else None
