"""Weights that no grid of integers can hold well, found before they are rounded."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bitladder.errors import RunError
from bitladder.quantization.layers import QuantizedLayer

MOST = 0.8
"""A channel that loses a larger share of its weights than this computes something else."""

OUTLIER = 100.0
"""How far above the median the largest weight is where it, and not few bits, is the reason."""


@dataclass(frozen=True)
class Lost:
    """What rounding leaves of an output channel whose largest weight is far above its others."""

    channel: int
    share: float
    """Of the channel's weights that are not zero, the share that becomes zero."""
    ratio: float
    """The channel's largest magnitude by its median magnitude."""


def require_finite(name: str, layer: QuantizedLayer) -> None:
    """Refuse a layer that computes NaN or infinity in float already.

    Raises:
        RunError: If its weight or bias, or the BatchNorm folded into them, is not finite.
    """
    parts = {f"the {part} of": x for part, x in layer.named_parameters(recurse=False)}
    if layer.batch_norm is not None:
        parts |= dict.fromkeys(["the BatchNorm behind"], torch.cat(_flat(layer.folded())))
    for part, tensor in parts.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunError(
                f"{part} {name or 'the model'} holds NaN or infinity: it cannot be quantized, and"
                " float is as wrong; look for where the training diverged"
            )


def lost_to_rounding(layer: QuantizedLayer) -> Lost | None:
    """The output channel that an outlier leaves least of, if that is next to nothing.

    The ratio of signal to noise does not show it: the one large weight is most of the signal.

    Args:
        layer: A layer that rounds, its weight's range known.
    """
    weight, _ = layer.folded()
    with torch.no_grad():
        kept = layer.weight_quantize(weight).flatten(1) != 0
    magnitudes = weight.flatten(1).abs()
    there = magnitudes > 0
    share = 1.0 - (there & kept).sum(1) / there.sum(1).clamp(min=1)
    # A channel that is next to zero as a whole does nothing in float either.
    share[~kept.any(1)] = 0.0
    channel = int(share.argmax())
    values = magnitudes[channel][there[channel]]
    if not (share[channel] > MOST and values.max() > OUTLIER * values.median()):
        return None
    return Lost(channel, share[channel].item(), (values.max() / values.median()).item())


def warn_of_lost(layers: Mapping[str, QuantizedLayer]) -> None:
    """Say in one line a layer where an outlier costs the other weights."""
    for name, layer in layers.items():
        lost = lost_to_rounding(layer)
        if lost is not None:
            warnings.warn(
                f"layer {name or 'that is the model'}: {lost.share:.0%} of the weights of output"
                f" channel {lost.channel} round to zero, because its largest is {lost.ratio:.3g}"
                " times their median; clip it, or leave the layer out with"
                f" quantization.skip=[{name}]",
                stacklevel=3,
            )


def _flat(tensors: Iterable[Tensor | None]) -> list[Tensor]:
    return [x.flatten() for x in tensors if x is not None]
