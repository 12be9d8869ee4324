"""What every twin is: a layer that trains as it did, and quantizes its input and weight on demand.

A layer becomes its twin by changing its class in place. The module object stays the same, so the
optimizer, tied weights, hooks and the user's own references to it go on working, and its parameters
keep their names: a float checkpoint fits a prepared model.
"""

from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from bitladder.quantization.choice import why_no_kernel
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize, Unquantized

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Kernel = Literal["int8", "weight-only", "none"]
"""What runs a layer: an int8 kernel; a float one on a weight that is stored as codes; or a float
one that simulates, on rounded inputs, a kernel that does not exist."""


class QuantizedLayer(nn.Module):
    """A layer with a weight that owns the quantizers of its input and of its weight.

    With a BatchNorm behind it the *folded* weight is quantized, as it will be in the int8 model:
    it is scaled by BatchNorm's running statistics, rounded, and scaled back, so
    BatchNorm itself goes on as if nothing had happened (Krishnamoorthi, "Quantizing deep
    convolutional networks for efficient inference", 2018, section 3.2.2).
    """

    __constants__: ClassVar[list[str]]
    float_type: ClassVar[type[nn.Module]]
    why_weight_only: ClassVar[str | None] = None
    """Why only the weight of such a layer is ever quantized; ``None`` if its input can be too."""
    has_tokens: ClassVar[bool] = True
    """Whether the last axis of an input holds the features of one token."""
    weight: Tensor
    bias: Tensor | None
    input_quantize: FakeQuantize | DynamicQuantize | Unquantized
    weight_quantize: FakeQuantize

    @classmethod
    def adopt(
        cls,
        layer: nn.Module,
        input_quantize: FakeQuantize | DynamicQuantize | Unquantized,
        weight_quantize: FakeQuantize,
    ) -> Self:
        """Turn ``layer`` (exactly of :attr:`float_type`) into its twin, in place."""
        assert type(layer) is cls.float_type
        layer.__class__ = cls
        assert isinstance(layer, cls)
        if cls.why_weight_only:
            input_quantize = Unquantized()
        device = layer.weight.device
        layer.input_quantize = input_quantize.to(device).train(layer.training)
        layer.weight_quantize = weight_quantize.to(device).train(layer.training)
        layer.fold(None)
        return layer

    @classmethod
    def why_float(cls, layer: nn.Module) -> str | None:
        """The reason why this very layer cannot become the twin, if it cannot."""
        return None

    @classmethod
    def inputs(cls, layer: nn.Module) -> int | None:
        """The number of inputs of each channel of this layer, if all have equally many."""
        weight = layer.weight
        assert isinstance(weight, Tensor)
        return weight.shape[1]

    @property
    def kernel(self) -> Kernel:
        """What runs the layer once it is converted."""
        if isinstance(self.input_quantize, Unquantized):
            return "weight-only"
        return "none" if self.kernel_reason else "int8"

    @property
    def kernel_reason(self) -> str | None:
        """Why no int8 kernel runs the layer once it is converted; ``None`` if one does."""
        if isinstance(self.input_quantize, Unquantized):
            return self.why_weight_only or "its input is float: quantization.activations.per=none"
        return why_no_kernel(self.weight_quantize.scheme, self.input_quantize.scheme)

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

    @property
    def matrices(self) -> dict[str, Tensor]:
        """The parameters that are quantized, by their name in this layer."""
        return {"weight": self.weight}

    def fold(self, norm: BatchNorm | None) -> None:
        """Fold ``norm``, which follows this layer, into the weight that is quantized."""
        self._batch_norm = [norm]

    def folds(self, output: Tensor) -> bool:
        """Whether a BatchNorm that takes ``output`` normalizes what this layer's weight makes."""
        return False

    def compute(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """What the float layer computes, with another weight and bias."""
        raise NotImplementedError

    def outputs_first(self, weight: Tensor) -> Tensor:
        """The weight with the output channels along axis 0: the form that is quantized."""
        return weight

    def as_held(self, weight: Tensor) -> Tensor:
        """From the form that is quantized back to that of the parameter."""
        return weight

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The float layer's output; input and weight are rounded when their quantizers say so.

        Further arguments are those of the float layer's own ``forward``.
        """
        input = self.input_quantize(input)
        if not self.weight_quantize.active:
            return self.compute(input, self.weight, self.bias, *args, **kwargs)
        weight = self.outputs_first(self.weight)
        if self.batch_norm is None:
            weight = self.weight_quantize(weight)
        else:
            factor = _over_outputs(fold_factor(self.batch_norm), weight)
            # Dividing the weight divides the output, for a fraction of the work.
            weight = (self.weight_quantize(weight.float() * factor) / factor).to(weight.dtype)
        return self.compute(input, self.as_held(weight), self.bias, *args, **kwargs)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight, outputs first, and bias with the BatchNorm folded in, fp32."""
        weight = self.outputs_first(self.weight.detach().float())
        bias = None if self.bias is None else self.bias.detach().float()
        norm = self.batch_norm
        if norm is None:
            return weight, bias
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean = norm.running_mean.float()
        # The very factor that `forward` rounds with: the largest weight of a channel lies halfway
        # between two codes, and the last bit of the factor would decide which.
        factor = fold_factor(norm).detach()
        if norm.weight is not None:
            factor = torch.where(norm.weight.detach() == 0, torch.zeros_like(factor), factor)
        shift = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().float()
        offset = -mean if bias is None else bias - mean
        return weight * _over_outputs(factor, weight), shift + offset * factor


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
