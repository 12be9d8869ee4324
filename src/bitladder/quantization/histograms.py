"""How values lie in the range that their grid covers."""

from typing import Any

import torch
from torch import Tensor, nn

from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.layers import QuantizedLayer
from bitladder.quantization.layers.recurrent import QuantRecurrent
from bitladder.quantization.modes import evaluating
from bitladder.quantization.prepare import quantized_layers
from bitladder.quantization.sensitivity import MOST_LAYERS, nothing_rounded
from bitladder.quantization.watch import Call

BINS = 64

AT_ONCE = 2**22
"""Values counted together: ``histc`` counts in fp32, which is exact up to 2**24."""

SLACK = 0.501
"""Steps of the grid. Half a step beyond the last code is what rounding loses inside, too."""


def histograms(model: nn.Module, call: Call) -> list[dict[str, Any]]:
    """Histograms of each quantized layer's weight and input, with the ranges of their grids.

    Args:
        model: A prepared model whose ranges are known; unchanged afterwards.
        call: Arguments of a pass, which is computed in float.

    Returns:
        A record a layer, of the first 128: ``name``, ``weight`` and ``input``; each of these with
        ``low`` and ``high``, the extremes; ``counts`` of 64 bins between them; ``range``, what the
        grid covers (of a weight with several scales the widest; None where it comes at run
        time); and ``clipped``, the share of values outside of it. ``input`` is None where it is no
        floating tensor or the layer did not run.
    """
    layers = dict(list(quantized_layers(model).items())[:MOST_LAYERS])
    inputs: dict[str, dict[str, Any]] = {}

    def watch(name: str, layer: QuantizedLayer) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0] if args else None
            if isinstance(x, Tensor) and x.is_floating_point() and x.numel():
                inputs.setdefault(name, _input(x, layer.input_quantize))

        return layer.register_forward_pre_hook(hook)

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        with torch.no_grad(), evaluating(model), nothing_rounded(model):
            model(*call.args, **call.kwargs)
            weights = {name: _weight(layer) for name, layer in layers.items()}
    finally:
        for handle in handles:
            handle.remove()
    return [{"name": name, "weight": weights[name], "input": inputs.get(name)} for name in layers]


def _weight(layer: QuantizedLayer) -> dict[str, Any]:
    weight, _ = layer.folded()
    values = weight
    if isinstance(layer, QuantRecurrent):  # filled up with zeros, which are no weights
        values = torch.cat([matrix.float().flatten() for matrix in layer.matrices.values()])
    quantizer = layer.weight_quantize
    described = _described(values, _range(quantizer))
    described["clipped"] = _outside(quantizer.scheme.rows(weight), quantizer) / values.numel()
    return described


def _input(x: Tensor, quantizer: nn.Module) -> dict[str, Any]:
    described = _described(x, _range(quantizer))
    if isinstance(quantizer, FakeQuantize):
        described["clipped"] = _outside(x, quantizer) / x.numel()
    return described


def _described(x: Tensor, covered: list[float] | None) -> dict[str, Any]:
    x = x.detach().float().flatten()
    low, high = (value.item() for value in torch.aminmax(x))
    counts = torch.tensor([x.numel()])
    if high > low:
        parts = [torch.histc(part, BINS, low, high).long() for part in x.split(AT_ONCE)]
        counts = torch.stack(parts).sum(0)
    return {"low": low, "high": high, "counts": counts.tolist(), "range": covered, "clipped": None}


def _outside(rows: Tensor, quantizer: FakeQuantize) -> int:
    """How many values lie beyond the ends of their own grid by more than rounding."""
    low, high = _limits(quantizer)
    slack = SLACK * quantizer.scale
    least, greatest = low - slack, high + slack
    if quantizer.scheme.channel_axis is not None:
        shape = [-1] + [1] * (rows.dim() - 1)
        least, greatest = least.reshape(shape), greatest.reshape(shape)
    return int(((rows < least) | (rows > greatest)).sum())


def _range(quantizer: Any) -> list[float] | None:
    if not isinstance(quantizer, FakeQuantize):
        return None
    low, high = _limits(quantizer)
    return [low.min().item(), high.max().item()]


def _limits(quantizer: FakeQuantize) -> tuple[Tensor, Tensor]:
    """What the lowest and the highest code stand for."""
    grid, zero = quantizer.scheme.format, quantizer.zero_point.float()
    scale = quantizer.scale.float()
    return (grid.minimum - zero) * scale, (grid.maximum - zero) * scale
