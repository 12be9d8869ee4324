"""What every reference layer is: integer codes, and the float operation on what they stand for."""

from typing import Any

from torch import Tensor, nn

from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize
from bitladder.quantization.layers import QuantizedLayer
from bitladder.quantization.qdq import (
    dequantize_rows,
    quantize_dequantize,
    quantize_dequantize_dynamic,
    quantize_rows,
)


class ReferenceLayer(nn.Module):
    """A layer with int8 weights, written as quantize, dequantize and the float operation.

    Run eagerly it is the reference of what int8 kernels must compute; compiled by Inductor, the
    pattern becomes those kernels.
    """

    weight_codes: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor | None

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        for name in layer.__constants__:  # in_features and the like: the model's code may ask
            setattr(self, name, getattr(layer, name))
        weight, bias = layer.folded()
        quantizer, input = layer.weight_quantize, layer.input_quantize
        self.weight_scheme = quantizer.scheme
        self.input_scheme = getattr(input, "scheme", quantizer.scheme)
        # One scale for the whole weight is written as one a channel, which kernels take.
        channels = weight.shape[0]
        scale = self.spread(over_channels(quantizer.scale.float(), channels))
        zero_point = self.spread(over_channels(quantizer.zero_point.long(), channels))
        weight = self.arrange(weight).contiguous()  # Inductor reads a transposed one in wrong order
        self.weight_shape = weight.shape
        groups, scale, zero_point = scale.shape[1], scale.flatten(), zero_point.flatten()
        # In no shape that Inductor knows, for it would take a kernel that computes something else.
        if layer.kernel == "none" or groups > 1:
            weight = weight.reshape(len(scale), 1, -1)
        codes = quantize_rows(weight, scale, zero_point, quantizer.scheme)
        self.register_buffer("weight_codes", codes)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero_point", zero_point)
        self.register_buffer("bias", None if bias is None else self.spread(bias))
        self.static: tuple[float, int] | None = None
        self.dynamic = isinstance(input, DynamicQuantize)
        if isinstance(input, FakeQuantize):
            self.static = (input.scale.item(), int(input.zero_point.item()))

    def arrange(self, weight: Tensor) -> Tensor:
        """The weight (fp32, outputs first) in the form that the operation takes."""
        return weight

    def spread(self, channels: Tensor) -> Tensor:
        """What there is for each output channel (axis 0), for those of :meth:`arrange`."""
        return channels

    def rounded(self, input: Tensor) -> Tensor:
        """The input (fp32) through integer codes, as its range is known or comes."""
        if self.static is not None:
            return quantize_dequantize(input, *self.static, self.input_scheme)
        return quantize_dequantize_dynamic(input, self.input_scheme) if self.dynamic else input

    @property
    def weight(self) -> Tensor:
        """The weight that the codes stand for, fp32: what the model's own code may read."""
        scale, zero_point = self.weight_scale, self.weight_zero_point
        weight = dequantize_rows(self.weight_codes, scale, zero_point, self.weight_scheme)
        return weight if weight.shape == self.weight_shape else weight.reshape(self.weight_shape)

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output, fp32; arguments as the float layer's, floating ones fp32."""
        raise NotImplementedError


def over_channels(values: Tensor, channels: int) -> Tensor:
    """What there is one of for a tensor, each channel or each group, ``[channels, groups]``."""
    return (values.repeat(channels) if values.dim() == 0 else values).reshape(channels, -1)
