"""What twins become at conversion, a file a family, as in ``layers``."""

from bitladder.quantization.layers import (
    QuantConv3d,
    QuantConvolution,
    QuantEmbedding,
    QuantEmbeddingBag,
    QuantInputsFirst,
    QuantizedLayer,
    QuantLinear,
    QuantRecurrent,
    QuantTransposed,
)
from bitladder.quantization.reference.base import ReferenceLayer
from bitladder.quantization.reference.convolution import ReferenceConv3d, ReferenceConvolution
from bitladder.quantization.reference.embedding import ReferenceEmbedding, ReferenceEmbeddingBag
from bitladder.quantization.reference.linear import ReferenceLinear
from bitladder.quantization.reference.recurrent import ReferenceRecurrent
from bitladder.quantization.reference.transposed import ReferenceTransposed

REFERENCES: dict[type[QuantizedLayer], type[ReferenceLayer]] = {
    QuantLinear: ReferenceLinear,
    QuantInputsFirst: ReferenceLinear,
    QuantConv3d: ReferenceConv3d,  # before its kin: the first that fits is taken
    QuantConvolution: ReferenceConvolution,
    QuantTransposed: ReferenceTransposed,
    QuantEmbedding: ReferenceEmbedding,
    QuantEmbeddingBag: ReferenceEmbeddingBag,
    QuantRecurrent: ReferenceRecurrent,
}


def reference_of(layer: QuantizedLayer) -> ReferenceLayer:
    """The reference layer of a twin whose ranges are known."""
    return next(made for twin, made in REFERENCES.items() if isinstance(layer, twin))(layer)


__all__ = ["REFERENCES", "ReferenceLayer", "reference_of"]
