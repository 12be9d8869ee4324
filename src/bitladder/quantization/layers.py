"""The twins: layers that train as they did, and quantize their input and weight on demand.

A layer becomes its twin by changing its class in place. The module object stays the same, so the
optimizer, tied weights, hooks and the user's own references to it go on working, and its parameters
keep their names: a float checkpoint fits a prepared model.
"""

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from bitladder.quantization.attention import Projection
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


class QuantizedLayer(nn.Module):
    """A layer with a weight that owns the quantizers of its input and of its weight.

    With a BatchNorm behind it the *folded* weight is quantized, as it will be in the int8 model:
    it is scaled by BatchNorm's running statistics, rounded, and scaled back, so
    BatchNorm itself goes on as if nothing had happened (Krishnamoorthi, "Quantizing deep
    convolutional networks for efficient inference", 2018, section 3.2.2).
    """

    __constants__: ClassVar[list[str]]
    float_type: ClassVar[type[nn.Module]]
    weight: Tensor
    bias: Tensor | None
    input_quantize: FakeQuantize | DynamicQuantize
    weight_quantize: FakeQuantize

    @classmethod
    def adopt(
        cls,
        layer: nn.Module,
        input_quantize: FakeQuantize | DynamicQuantize,
        weight_quantize: FakeQuantize,
    ) -> Self:
        """Turn ``layer`` (exactly of :attr:`float_type`) into its twin, in place."""
        assert type(layer) is cls.float_type
        layer.__class__ = cls
        assert isinstance(layer, cls)
        device = layer.weight.device
        layer.input_quantize = input_quantize.to(device).train(layer.training)
        layer.weight_quantize = weight_quantize.to(device).train(layer.training)
        layer.fold(None)
        return layer

    @property
    def batch_norm(self) -> BatchNorm | None:
        """The BatchNorm that follows and is folded into this layer.

        Kept in a list so that it is no child here: it already has its name in the model.
        """
        return self._batch_norm[0]

    @property
    def computes_float(self) -> bool:
        """Whether the layer computes now what it did before it became a twin."""
        return not (self.input_quantize.active or self.weight_quantize.active)

    def fold(self, norm: BatchNorm | None) -> None:
        """Fold ``norm``, which follows this layer, into the weight that is quantized."""
        self._batch_norm = [norm]

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What the float layer computes, with another weight and bias."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """The float layer's output; input and weight are rounded when their quantizers say so."""
        input = self.input_quantize(input)
        if not self.weight_quantize.active:
            return self.compute(input, self.weight, self.bias)
        if self.batch_norm is None:
            return self.compute(input, self.weight_quantize(self.weight), self.bias)
        factor = fold_factor(self.batch_norm)
        factor = _over_outputs(factor, self.weight)
        # Dividing the weight divides the output, for a fraction of the work.
        weight = self.weight_quantize(self.weight.float() * factor) / factor
        return self.compute(input, weight.to(self.weight.dtype), self.bias)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias with the BatchNorm folded in, fp32; what the int8 layer holds."""
        weight = self.weight.detach().float()
        bias = None if self.bias is None else self.bias.detach().float()
        norm = self.batch_norm
        if norm is None:
            return weight, bias
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean = norm.running_mean.float()
        std = torch.sqrt(norm.running_var.float() + norm.eps)
        gain = torch.ones_like(mean) if norm.weight is None else norm.weight.detach().float()
        shift = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().float()
        offset = -mean if bias is None else bias - mean
        return weight * _over_outputs(gain / std, weight), shift + offset * gain / std


def fold_factor(norm: BatchNorm) -> Tensor:
    """What folding multiplies each output channel's weight with, fp32, shape ``[channels]``.

    A channel whose gain is zero has no output, whatever its weight; there the factor is 1, which
    keeps the division that undoes it finite.
    """
    assert norm.running_var is not None
    factor = torch.rsqrt(norm.running_var.float() + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight.float()
    return torch.where(factor == 0, torch.ones_like(factor), factor)


def _over_outputs(channels: Tensor, weight: Tensor) -> Tensor:
    """Shape ``[out]`` broadcast against a weight ``[out, ...]``."""
    return channels.reshape(-1, *[1] * (weight.dim() - 1))


class QuantLinear(QuantizedLayer, nn.Linear):
    """:class:`torch.nn.Linear`, quantized on demand."""

    float_type = nn.Linear

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``input @ weight.T + bias``."""
        return F.linear(input, weight, bias)


class QuantProjection(QuantLinear, Projection):  # pyright: ignore[reportIncompatibleVariableOverride]
    """The linear that makes an attention's queries, keys or values, quantized on demand."""

    float_type = Projection


class QuantOutProjection(QuantLinear, NonDynamicallyQuantizableLinear):
    """The linear behind an attention, quantized on demand."""

    float_type = NonDynamicallyQuantizableLinear


class QuantConv1d(QuantizedLayer, nn.Conv1d):
    """:class:`torch.nn.Conv1d`, quantized on demand."""

    float_type = nn.Conv1d

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with this layer's stride, padding, dilation and groups."""
        return self._conv_forward(input, weight, bias)


class QuantConv2d(QuantizedLayer, nn.Conv2d):
    """:class:`torch.nn.Conv2d`, quantized on demand."""

    float_type = nn.Conv2d

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with this layer's stride, padding, dilation and groups."""
        return self._conv_forward(input, weight, bias)


TWINS: dict[type[nn.Module], type[QuantizedLayer]] = {
    twin.float_type: twin
    for twin in (QuantLinear, QuantProjection, QuantOutProjection, QuantConv1d, QuantConv2d)
}
