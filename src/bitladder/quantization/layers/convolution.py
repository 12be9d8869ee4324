"""Convolutions over time, images and volumes; grouped and depthwise ones too."""

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bitladder.quantization.layers.base import QuantizedLayer


class QuantChannelsFirst(QuantizedLayer, _ConvNd):
    """What convolutions and transposed convolutions share."""

    has_tokens = False

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

    @classmethod
    def why_float(cls, layer: nn.Module) -> str | None:
        """A depthwise one: in int8 it was 14 times slower, dequantized at run time 5 times."""
        assert isinstance(layer, nn.Conv3d)
        depthwise = 1 < layer.groups == layer.in_channels
        return (
            "a depthwise Conv3d is slower in int8, and its weight is small" if depthwise else None
        )
