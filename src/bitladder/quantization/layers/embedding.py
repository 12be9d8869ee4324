"""Embeddings: tables of rows, each with a scale of its own; their input is indices."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from bitladder.quantization.layers.base import QuantizedLayer


class QuantTable(QuantizedLayer):
    """What embeddings share: a weight whose rows are looked up."""

    why_weight_only = (
        "rows are looked up, nothing is multiplied: codes and a scale a row are stored"
    )
    bias: ClassVar[None] = None  # pyright: ignore[reportIncompatibleVariableOverride]

    @classmethod
    def why_float(cls, layer: nn.Module) -> str | None:
        """Rows that change as they are read, and gradients that name only some rows."""
        if getattr(layer, "max_norm", None) is not None:
            return "max_norm changes the rows as they are looked up"
        if getattr(layer, "sparse", False):
            return "a rounded table has no sparse gradient: write sparse=False"
        return None


class QuantEmbedding(QuantTable, nn.Embedding):
    """:class:`torch.nn.Embedding`, its weight quantized on demand."""

    float_type = nn.Embedding

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The rows of ``weight`` that the indices name."""
        return F.embedding(
            input, weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq
        )


class QuantEmbeddingBag(QuantTable, nn.EmbeddingBag):
    """:class:`torch.nn.EmbeddingBag`, its weight quantized on demand."""

    float_type = nn.EmbeddingBag

    def compute(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """Sum, mean or maximum of the rows of ``weight`` in each bag."""
        return F.embedding_bag(
            input,
            weight,
            offsets,
            scale_grad_by_freq=self.scale_grad_by_freq,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )
