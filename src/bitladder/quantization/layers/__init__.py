"""The twins, a file a family; a new layer is a class beside its kin and an entry in ``TWINS``."""

from torch import nn

from bitladder.quantization.layers.base import BatchNorm, QuantizedLayer, fold_factor
from bitladder.quantization.layers.convolution import (
    QuantConv1d,
    QuantConv2d,
    QuantConv3d,
    QuantConvolution,
)
from bitladder.quantization.layers.embedding import QuantEmbedding, QuantEmbeddingBag, QuantTable
from bitladder.quantization.layers.foreign import QuantInputsFirst, foreign_twin
from bitladder.quantization.layers.linear import (
    QuantLinear,
    QuantOutProjection,
    QuantProjection,
)
from bitladder.quantization.layers.recurrent import QuantGRU, QuantLSTM, QuantRecurrent
from bitladder.quantization.layers.transposed import (
    QuantConvTranspose1d,
    QuantConvTranspose2d,
    QuantTransposed,
)

TWINS: dict[type[nn.Module], type[QuantizedLayer]] = {
    twin.float_type: twin
    for twin in (
        QuantLinear,
        QuantProjection,
        QuantOutProjection,
        QuantConv1d,
        QuantConv2d,
        QuantConv3d,
        QuantConvTranspose1d,
        QuantConvTranspose2d,
        QuantEmbedding,
        QuantEmbeddingBag,
        QuantLSTM,
        QuantGRU,
    )
}


def twin_of(kind: type[nn.Module]) -> type[QuantizedLayer] | None:
    """The twin of a layer of exactly this type, if it has one."""
    if kind not in TWINS and (twin := foreign_twin(kind)):
        TWINS[kind] = twin
    return TWINS.get(kind)


__all__ = [
    "TWINS",
    "BatchNorm",
    "QuantConv1d",
    "QuantConv2d",
    "QuantConv3d",
    "QuantConvTranspose1d",
    "QuantConvTranspose2d",
    "QuantConvolution",
    "QuantEmbedding",
    "QuantEmbeddingBag",
    "QuantGRU",
    "QuantInputsFirst",
    "QuantLSTM",
    "QuantLinear",
    "QuantOutProjection",
    "QuantProjection",
    "QuantRecurrent",
    "QuantTable",
    "QuantTransposed",
    "QuantizedLayer",
    "fold_factor",
    "twin_of",
]
