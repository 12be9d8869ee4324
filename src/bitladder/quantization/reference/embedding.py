"""Embeddings whose rows are stored as int8 codes, and dequantized after they were looked up."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bitladder.quantization.layers import QuantEmbeddingBag
from bitladder.quantization.reference.base import ReferenceLayer


class ReferenceEmbedding(ReferenceLayer):
    """Rows by index."""

    def rows(self, indices: Tensor) -> Tensor:
        """Indices of any shape to fp32 rows, ``[..., embedding_dim]``."""
        codes = self.weight[indices].float() - self.weight_zero_point[indices].unsqueeze(-1)
        return codes * self.weight_scale[indices].unsqueeze(-1)

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
        # an index, in their order; row 0 stands for the index that does not count.
        rows = F.pad(self.rows(input.flatten()), (0, 0, 1, 0))
        order = torch.arange(1, input.numel() + 1, device=input.device).view(input.shape)
        if self.padding_idx is not None:
            order = order.masked_fill(input == self.padding_idx, 0)
        return F.embedding_bag(
            order,
            rows,
            offsets,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=None if self.padding_idx is None else 0,
        )
