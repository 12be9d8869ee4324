"""Conversion: from a prepared float model to one whose weights are int8 codes."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization.attention import UnpackedAttention
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize
from bitladder.quantization.layers import QuantConv1d, QuantConv2d, QuantizedLayer
from bitladder.quantization.prepare import quantized_layers
from bitladder.quantization.qdq import (
    dequantize_weight,
    quantize_dequantize,
    quantize_dequantize_dynamic,
    quantize_weight,
)


class ReferenceLayer(nn.Module):
    """An int8 layer written as quantize, dequantize and the float operation.

    Run eagerly it is the reference of what int8 kernels must compute; compiled by Inductor, the
    pattern becomes those kernels. A Conv1d is computed on images of height one: Inductor's int8
    convolution has the wrong idea of how long a one-dimensional output is.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        for name in layer.__constants__:  # in_features and the like: the model's code may ask
            setattr(self, name, getattr(layer, name))
        weight, bias = layer.folded()
        self.channel_padding = _channel_padding(layer)
        if self.channel_padding:
            weight = F.pad(weight, self.channel_padding)
        self.as_image = isinstance(layer, QuantConv1d)
        if self.as_image:
            weight = weight.unsqueeze(-2)
        quantizer = layer.weight_quantize
        self.weight_scheme = quantizer.scheme
        self.input_scheme = layer.input_quantize.scheme
        self.compute = _operation(layer)
        self.weight_codes: Tensor
        self.weight_scale: Tensor
        self.weight_zero_point: Tensor
        self.bias: Tensor | None
        scale, zero_point = quantizer.scale.float(), quantizer.zero_point.long()
        codes = quantize_weight(weight, scale, zero_point, quantizer.scheme)
        self.register_buffer("weight_codes", codes)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero_point", zero_point)
        self.register_buffer("bias", bias)
        self.static: tuple[float, int] | None = None
        if isinstance(layer.input_quantize, FakeQuantize):
            grid = layer.input_quantize
            self.static = (grid.scale.item(), int(grid.zero_point.item()))

    @property
    def weight(self) -> Tensor:
        """The weight that the codes stand for, fp32: what the model's own code may read."""
        scale, zero_point = self.weight_scale, self.weight_zero_point
        return dequantize_weight(self.weight_codes, scale, zero_point, self.weight_scheme)

    def forward(self, input: Tensor) -> Tensor:
        """The layer's output, fp32; ``input`` is fp32 of the float layer's shape."""
        if self.channel_padding:
            input = F.pad(input, self.channel_padding)
        if self.as_image:
            input = input.unsqueeze(-2)
        if self.compute is F.linear:
            input = input.contiguous()  # Inductor has no int8 kernel for a transposed one
        if self.static is None:
            input = quantize_dequantize_dynamic(input, self.input_scheme)
        else:
            input = quantize_dequantize(input, *self.static, self.input_scheme)
        output = self.compute(input, self.weight, self.bias)
        return output.squeeze(-2) if self.as_image else output


def convert(model: nn.Module) -> nn.Module:
    """A copy of a prepared model with int8 weights and BatchNorm folded away, on the CPU.

    Args:
        model: A prepared model whose ranges are known; it is not changed.

    Returns:
        The reference model in eval mode: it takes and gives fp32.

    Raises:
        RunError: If a layer has no range yet, or its weight holds NaN or infinity.
    """
    model = _detached(model)
    folded: list[nn.Module] = []
    for name, layer in quantized_layers(model).items():
        if not bool(torch.isfinite(layer.weight).all()):
            raise RunError(f"the weight of {name} holds NaN or infinity: it cannot be quantized")
        layer.weight_quantize.require_range(f"{name}.weight")
        if isinstance(layer.input_quantize, FakeQuantize):
            layer.input_quantize.require_range(f"the input of {name}")
        if layer.batch_norm is not None:
            folded.append(layer.batch_norm)
        model = _replace(model, layer, ReferenceLayer(layer).eval())
    for norm in folded:
        model = _replace(model, norm, nn.Identity().eval())
    for module in model.modules():
        if isinstance(module, UnpackedAttention):
            module.release()
    return model


def float_copy(model: nn.Module) -> nn.Module:
    """A copy of a prepared model that rounds nothing, fp32 on the CPU, in eval mode."""
    model = _detached(model)
    for layer in quantized_layers(model).values():
        for quantizer in (layer.input_quantize, layer.weight_quantize):
            quantizer.quantizing = False
            if isinstance(quantizer, FakeQuantize):
                quantizer.observing = False
    return model


def scheme_of(layer: QuantizedLayer) -> dict[str, Any]:
    """Bits, scheme, observers, scales and zero points of a layer, as plain values."""
    weight, input = layer.weight_quantize, layer.input_quantize
    described: dict[str, Any] = {
        "weight": {
            "bits": weight.scheme.format.bits,
            "scheme": "symmetric per channel",
            "observer": type(weight.observer).__name__,
            "scale": weight.scale.tolist(),
            "zero_point": weight.zero_point.tolist(),
        },
        "input": {"bits": input.scheme.format.bits, "scheme": "affine per tensor"},
    }
    if isinstance(input, DynamicQuantize):
        described["input"] |= {"observer": "dynamic", "scale": None, "zero_point": None}
    else:
        described["input"] |= {
            "observer": type(input.observer).__name__,
            "scale": input.scale.item(),
            "zero_point": int(input.zero_point.item()),
        }
    return described


def _detached(model: nn.Module) -> nn.Module:
    """A copy for the CPU, fp32, without gradients, every tensor in PyTorch's standard layout.

    Inductor miscompiles a float convolution whose weight has one input channel and was put in
    channels_last: its strides fit both layouts, and it reads the weight in the wrong one. It
    chooses the layout of its kernels itself, so nothing is lost.
    """
    model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)
    return model


def _channel_padding(layer: QuantizedLayer) -> list[int]:
    """What gives a convolution of one input channel a second one, of zeros; else nothing.

    The strides of a one-channel image fit both memory layouts. Inductor and the int8 kernel then
    disagree about the layout of the *output*, and whatever is added to it is added in the wrong
    order. Two channels leave no doubt, and int8 kernels compute four at a time anyway.
    """
    if not isinstance(layer, QuantConv1d | QuantConv2d) or layer.in_channels != 1:
        return []
    return [0, 0] * len(layer.kernel_size) + [0, 1]


def _operation(layer: QuantizedLayer) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The layer's float operation, free of the layer: input, weight and bias give the output."""
    if not isinstance(layer, QuantConv1d | QuantConv2d):
        return F.linear
    convolve: Callable[..., Tensor] = F.conv2d
    stride, padding, dilation = layer.stride, layer.padding, layer.dilation
    if isinstance(layer, QuantConv1d):
        stride, dilation = (1, *stride), (1, *dilation)
        padding = padding if isinstance(padding, str) else (0, *padding)
    return partial(convolve, stride=stride, padding=padding, dilation=dilation, groups=layer.groups)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put ``new`` in every place of ``old``; the model itself may be that place."""
    if model is old:
        return new
    places = [n for n, m in model.named_modules(remove_duplicate=False) if m is old]
    for name in places:
        model.set_submodule(name, new)
    return model
