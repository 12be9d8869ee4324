"""Which linears of a model can run in fp8, decided on the whole model."""

from collections.abc import Mapping, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

from bitladder.patterns import matches, require_matches
from bitladder.precision.fp8.linear import ALIGNMENT, Fp8Linear
from bitladder.precision.fp8.report import LinearRecord

_LAYERS = (nn.Linear, nn.Embedding, nn.EmbeddingBag, _ConvNd)
"""What counts as the first and the last layer of a model."""


def select(model: nn.Module, *, skip: Sequence[str], keep_ends: bool) -> list[LinearRecord]:
    """A record of every linear of `model`, in its order, that says whether it stays in bf16.

    Args:
        model: The whole model, not a part of it: a part has other ends.
        skip: Name patterns (`fnmatch`) of linears to keep.
        keep_ends: Keep the first and the last layer, where rounding hurts most. Only a linear can
            be meant: an embedding or a convolution in the first place never runs in fp8.

    Raises:
        UserError: a pattern matches no linear.
    """
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    require_matches("precision.skip", skip, linears, "linear")
    layers = [module for module in model.modules() if isinstance(module, _LAYERS)]
    ends = {"first": layers[0], "last": layers[-1]} if layers and keep_ends else {}
    records = []
    for name, linear in linears.items():
        kept = _why_kept(name, linear, skip, ends)
        records.append(LinearRecord(name, linear.in_features, linear.out_features, kept))
    return records


def _why_kept(
    name: str, linear: nn.Linear, skip: Sequence[str], ends: Mapping[str, nn.Module]
) -> str | None:
    if matches(name, skip):
        return "named in skip"
    if not isinstance(linear, Fp8Linear) and not Fp8Linear.takes(type(linear)):
        return f"{type(linear).__name__} is a subclass of Linear"
    if "forward" in vars(linear):
        return "its forward was replaced"
    for place, layer in ends.items():
        if linear is layer:
            return f"the {place} layer of the model"
    sizes = {"in_features": linear.in_features, "out_features": linear.out_features}
    odd = [f"{key}={size}" for key, size in sizes.items() if size % ALIGNMENT]
    return f"{' and '.join(odd)} not divisible by {ALIGNMENT}" if odd else None
