"""What each layer's rounding alone costs at the model's output."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from bitladder.quantization.layers import QuantizedLayer
from bitladder.quantization.modes import evaluating
from bitladder.quantization.prepare import quantized_layers
from bitladder.quantization.trees import tensors
from bitladder.quantization.verify import tensors_sqnr
from bitladder.quantization.watch import Call

MOST_LAYERS = 128
"""Layers that are looked at, each for one pass: the first so many."""


def sensitivity(model: nn.Module, call: Call) -> dict[str, float]:
    """Signal-to-quantization-noise ratio at the output with one layer rounded, all others float.

    The layer whose ratio is lowest is the first to leave in float. The ratios do not add up:
    rounding errors of several layers also meet.

    Args:
        model: A prepared model whose ranges are known; unchanged afterwards.
        call: Arguments of a pass.

    Returns:
        dB by layer, infinity where rounding changes nothing; of the first 128 layers.
    """
    layers = dict(list(quantized_layers(model).items())[:MOST_LAYERS])

    def outputs() -> list[torch.Tensor]:
        return tensors(model(*call.args, **call.kwargs))

    with torch.no_grad(), evaluating(model), nothing_rounded(model):
        exact = outputs()
        found = {}
        for name, layer in layers.items():
            _switch(layer, True)
            found[name] = tensors_sqnr(list(zip(exact, outputs(), strict=True)))
            _switch(layer, False)
    return found


@contextmanager
def nothing_rounded(model: nn.Module) -> Iterator[None]:
    """Let the model compute in float inside the block; its layers round afterwards as before."""
    quantizers = [
        quantizer
        for layer in quantized_layers(model).values()
        for quantizer in (layer.input_quantize, layer.weight_quantize)
    ]
    before = [quantizer.quantizing for quantizer in quantizers]
    for quantizer in quantizers:
        quantizer.quantizing = False
    try:
        yield
    finally:
        for quantizer, quantizing in zip(quantizers, before, strict=True):
            quantizer.quantizing = quantizing


def _switch(layer: QuantizedLayer, rounds: bool) -> None:
    layer.input_quantize.quantizing = layer.weight_quantize.quantizing = rounds
