"""Conversion: from a prepared float model to one whose weights are int8 codes."""

import copy
from typing import Any

import torch
from torch import nn

from bitladder.quantization.attention import UnpackedAttention
from bitladder.quantization.copies import without_history
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize, Unquantized
from bitladder.quantization.layers import QuantizedLayer
from bitladder.quantization.prepare import quantized_layers
from bitladder.quantization.ranges import require_ranges
from bitladder.quantization.reference import reference_of
from bitladder.quantization.weights import require_finite


def convert(model: nn.Module) -> nn.Module:
    """A copy of a prepared model with int8 weights and BatchNorm folded away, on the CPU.

    Args:
        model: A prepared model whose ranges are known; it is not changed.

    Returns:
        The reference model in eval mode: it takes and gives fp32.

    Raises:
        RunError: If a layer has no range yet, or its parameters hold NaN or infinity.
    """
    model = _detached(model)
    require_ranges(model)
    folded: list[nn.Module] = []
    for name, layer in quantized_layers(model).items():
        require_finite(name, layer)
        if layer.batch_norm is not None:
            folded.append(layer.batch_norm)
        model = _replace(model, layer, reference_of(layer).eval())
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
            "scheme": str(weight.scheme),
            "observer": type(weight.observer).__name__,
            "scale": weight.scale.tolist(),
            "zero_point": weight.zero_point.tolist(),
        },
        "input": None,
    }
    if isinstance(input, Unquantized):
        return described
    described["input"] = {"bits": input.scheme.format.bits, "scheme": str(input.scheme)}
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
    model = copy.deepcopy(model, without_history(model)).cpu().float().eval().requires_grad_(False)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)
    return model


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put ``new`` in every place of ``old``; the model itself may be that place."""
    if model is old:
        return new
    places = [n for n, m in model.named_modules(remove_duplicate=False) if m is old]
    for name in places:
        model.set_submodule(name, new)
    return model
