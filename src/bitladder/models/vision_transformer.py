"""A small vision transformer, made of layers that can all be quantized."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bitladder.models.arguments import check_dropout, check_image, check_sizes


class Attention(nn.Module):
    """Multi-head self-attention of four linears.

    ``nn.MultiheadAttention`` hides its projections from everything that swaps layers.

    Args:
        dim: Features of a token.
        heads: Number of heads; must divide ``dim``.
        dropout: Probability with which an attention weight is dropped in training.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[batch, tokens, dim]`` to the same shape."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.output(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block: attention, then a two-layer MLP, each added to its input.

    Args:
        dim: Features of a token.
        heads: Number of attention heads.
        hidden: Width of the MLP.
        dropout: Probability of dropout in training.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[batch, tokens, dim]`` to the same shape."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """Patches, learned positions, pre-norm blocks, the mean over the tokens, a linear classifier.

    Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), with the mean over the tokens
    in place of the class token.

    Args:
        input_shape: Channels, height and width of an image.
        num_classes: Number of logits.
        patch_size: Side of a square patch; must divide height and width.
        dim: Features of a token.
        depth: Number of blocks.
        heads: Number of attention heads; must divide ``dim``.
        mlp_ratio: Width of the blocks' MLP over ``dim``.
        dropout: Probability of dropout in training.

    Raises:
        ValueError: If an argument is out of range or does not divide what it must.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        patch_size: int = 2,
        dim: int = 96,
        depth: int = 4,
        heads: int = 3,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, height, width = check_image(input_shape, num_classes)
        check_sizes(patch_size=patch_size, dim=dim, depth=depth, heads=heads)
        check_dropout(dropout)
        hidden = round(dim * mlp_ratio)
        if hidden < 1:
            raise ValueError(f"mlp_ratio={mlp_ratio} leaves the MLP no width")
        if height % patch_size or width % patch_size:
            raise ValueError(
                f"patch_size={patch_size} does not divide an image of {height}x{width}"
            )
        if dim % heads:
            raise ValueError(f"heads={heads} does not divide dim={dim}")
        tokens = (height // patch_size) * (width // patch_size)
        self.patches = nn.Conv2d(channels, dim, patch_size, patch_size)
        weight = self.patches.weight.data
        self.patches.weight.data = weight.contiguous(memory_format=torch.channels_last)
        self.positions = nn.Parameter(torch.empty(1, tokens, dim))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dim, heads, hidden, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, num_classes]`` of images ``[batch, channels, height, width]``."""
        x = x.contiguous(memory_format=torch.channels_last)
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.blocks(self.dropout(tokens + self.positions))
        return self.head(self.norm(tokens).mean(1))
