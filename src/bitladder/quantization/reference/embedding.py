"""Embeddings whose rows are stored as int8 codes, and dequantized after they were looked up."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bitladder.quantization.layers import QuantEmbeddingBag
from bitladder.quantization.reference.base import ReferenceLayer


class ReferenceEmbedding(ReferenceLayer):
    """Rows by index."""

    def rows(self, indices: Tensor) -> Tensor:
        """Indices of any shape to fp32 rows, ``[..., embedding_dim]``."""
        groups = len(self.weight_scale) // self.weight_shape[0]
        if groups > 1:
            indices = indices.unsqueeze(-1) * groups + torch.arange(groups, device=indices.device)
        codes = self.weight_codes.flatten(1)[indices].float()
        rows = (codes - self.weight_zero_point[indices].unsqueeze(-1)) * self.weight_scale[
            indices
        ].unsqueeze(-1)
        return rows.flatten(-2) if groups > 1 else rows

    def forward(self, input: Tensor) -> Tensor:
        """Indices of any shape to ``[..., embedding_dim]``, fp32."""
        return self.rows(input)


class ReferenceEmbeddingBag(ReferenceEmbedding):
    """Sum, mean or maximum of the rows of each bag."""

    def __init__(self, layer: QuantEmbeddingBag) -> None:
        super().__init__(layer)
        self.mode = layer.mode
        self.include_last_offset = layer.include_last_offset
        self.padding_idx = layer.padding_idx

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """Bags as :class:`torch.nn.EmbeddingBag` takes them to ``[bags, embedding_dim]``, fp32."""
        # Only what is looked up is dequantized, so the table that the bags are made of has one row
        # an index, in their order.
        rows = self.rows(input.flatten())
        bags = partial(
            F.embedding_bag,
            torch.arange(input.numel(), device=input.device).view(input.shape),
            offsets=offsets,
            include_last_offset=self.include_last_offset,
        )
        if self.padding_idx is None:
            return bags(rows, mode=self.mode, per_sample_weights=per_sample_weights)
        # torch.export takes no padding_idx with a table whose size it does not know.
        counts = (input.flatten() != self.padding_idx).unsqueeze(-1)
        if self.mode == "max":
            most = bags(rows.masked_fill(~counts, -torch.inf), mode="max")
            return most.masked_fill(most == -torch.inf, 0.0)
        total = bags(rows * counts, mode="sum", per_sample_weights=per_sample_weights)
        if self.mode == "sum":
            return total
        return total / bags(counts.float(), mode="sum").clamp(min=1.0)
