"""Calibration: real data passes, ranges are learned, nothing else changes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from bitladder.errors import UserError
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.modes import evaluating
from bitladder.quantization.prepare import quantized_layers, set_quantizing
from bitladder.quantization.ranges import require_ranges
from bitladder.quantization.watch import Call


@contextmanager
def calibrating(model: nn.Module, *, inputs: bool = True) -> Iterator[None]:
    """Let every pass inside the block set the ranges; rounding is off, the model in eval mode.

    Args:
        model: A prepared model.
        inputs: Whether the inputs' ranges move too, or only the weights'.
    """
    quantizers = []
    for layer in quantized_layers(model).values():
        quantizers.append(layer.weight_quantize)
        if inputs and isinstance(layer.input_quantize, FakeQuantize):
            quantizers.append(layer.input_quantize)
    set_quantizing(model, False)
    for quantizer in quantizers:
        quantizer.calibrating = True
    try:
        with torch.no_grad(), evaluating(model):
            yield
            for quantizer in quantizers:
                if quantizer.observer.saw_data:
                    quantizer.settle()
    finally:
        for quantizer in quantizers:
            quantizer.calibrating = False


def calibrate(
    model: nn.Module, calls: Iterable[Call | torch.Tensor], *, inputs: bool = True
) -> int:
    """Run the model on real data and switch rounding on with the ranges it saw.

    Args:
        model: A prepared model.
        calls: The arguments of each pass, or its one input tensor.
        inputs: Whether the inputs' ranges are learned too, or only the weights'.

    Returns:
        The number of passes.

    Raises:
        UserError: If there is no data.
        RunError: If a layer never ran, or saw NaN or infinity.
    """
    passes = 0
    with calibrating(model, inputs=inputs):
        for call in calls:
            if isinstance(call, torch.Tensor):
                call = Call((call,), {})
            model(*call.args, **call.kwargs)
            passes += 1
    if passes == 0:
        raise UserError("calibration got no batches: give it at least one")
    finish(model)
    return passes


def finish(model: nn.Module) -> None:
    """Switch rounding on, once every layer has a range.

    Raises:
        RunError: If a layer never ran, or saw NaN or infinity.
    """
    require_ranges(model)
    set_quantizing(model, True)
