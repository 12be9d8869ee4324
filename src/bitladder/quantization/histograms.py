"""How values lie in the range that their grid covers."""

from typing import Any

import torch
from torch import Tensor, nn

from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.layers import QuantizedLayer
from bitladder.quantization.modes import evaluating
from bitladder.quantization.prepare import quantized_layers
from bitladder.quantization.sensitivity import MOST_LAYERS, nothing_rounded
from bitladder.quantization.watch import Call

BINS = 64


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
                inputs.setdefault(name, _described(x, _range(layer.input_quantize)))

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
    quantizer = layer.weight_quantize
    described = _described(weight, _range(quantizer))
    rows = quantizer.scheme.rows(weight)
    low, high = _limits(quantizer)
    if quantizer.scheme.channel_axis is not None:
        low, high = (x.reshape(-1, *[1] * (rows.dim() - 1)) for x in (low, high))
    described["clipped"] = _outside(rows, low, high)
    return described


def _described(x: Tensor, covered: list[float] | None) -> dict[str, Any]:
    x = x.detach().float().flatten()
    low, high = (value.item() for value in torch.aminmax(x))
    counts = torch.histc(x, BINS, low, high) if high > low else torch.tensor([float(x.numel())])
    clipped = None
    if covered is not None:
        clipped = _outside(x, torch.tensor(covered[0]), torch.tensor(covered[1]))
    return {
        "low": low,
        "high": high,
        "counts": [int(count) for count in counts.tolist()],
        "range": covered,
        "clipped": clipped,
    }


def _outside(x: Tensor, low: Tensor, high: Tensor) -> float:
    """The share that lies more than half a step beyond the range: rounding takes the rest in."""
    slack = 0.51 * (high - low) / 255
    return ((x < low - slack) | (x > high + slack)).float().mean().item()


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
