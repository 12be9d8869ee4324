"""Attention that calls its linears: modules of their own, which can become twins.

:class:`torch.nn.MultiheadAttention` holds the weights of three projections in one parameter and
never calls its ``out_proj``; in eval mode :class:`torch.nn.TransformerEncoderLayer` calls none of
its modules at all. A twin that is not called rounds nothing.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitladder.errors import UserError

Role = Literal["q", "k", "v"]
ROLES: tuple[Role, ...] = ("q", "k", "v")


class Projection(nn.Linear):
    """The linear that makes an attention's queries, keys or values.

    Its weight and bias are views of the attention's own parameters, which keep their names: the
    optimizer goes on working, and a float checkpoint fits.

    Args:
        attention: The attention that it is part of.
        role: What it makes.
    """

    def __init__(self, attention: nn.MultiheadAttention, role: Role) -> None:
        nn.Module.__init__(self)  # not Linear's, which would make parameters
        self.in_features = {
            "q": attention.embed_dim,
            "k": attention.kdim,
            "v": attention.vdim,
        }[role]
        self.out_features = attention.embed_dim
        self.role = role
        self._attention = [attention]  # in a list, so that the parent is no child here

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Shape ``[embed_dim, in_features]``, the attention's dtype."""
        (attention,) = self._attention
        if attention.in_proj_weight is None:
            return getattr(attention, f"{self.role}_proj_weight")
        return attention.in_proj_weight[self._rows()]

    @property
    def bias(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Shape ``[embed_dim]``, or ``None``."""
        (attention,) = self._attention
        return None if attention.in_proj_bias is None else attention.in_proj_bias[self._rows()]

    def _rows(self) -> slice:
        start = ROLES.index(self.role) * self.out_features
        return slice(start, start + self.out_features)


class UnpackedAttention(nn.MultiheadAttention):
    """:class:`torch.nn.MultiheadAttention` whose four linears are modules that it calls.

    They are ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj``; between them the attention itself
    is float. The output is that of the original to rounding, dropout included, with the same
    parameters under the same names. Three projections instead of a packed one let queries come
    from another tensor than keys and values; where it is the same tensor, the compiler quantizes it
    once. Nested tensors, which only PyTorch's fast path takes, are refused.
    """

    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What :class:`torch.nn.MultiheadAttention` computes; its arguments, shapes and dtypes.

        Raises:
            UserError: If a tensor is nested, a mask has another shape than it must, or
                ``is_causal`` comes without ``attn_mask``.
        """
        if query.is_nested or key.is_nested or value.is_nested:
            raise UserError(
                "attention that is quantized takes no nested tensors: give padded ones and"
                " key_padding_mask (to nn.TransformerEncoder, also enable_nested_tensor=False)"
            )
        if is_causal and attn_mask is None:
            raise UserError("is_causal=True says that attn_mask is causal: give attn_mask too")
        batched = query.dim() == 3
        q = self._heads(self.q_proj(query))
        k = self._heads(self.k_proj(key))
        v = self._heads(self.v_proj(value))
        # As in the original, the hint replaces the mask only where the mask is all there is.
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self._mask(key_padding_mask, attn_mask, q, k, batched)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = self._append(k, self.bias_k), self._append(v, self.bias_v)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        if mask is not None:
            mask = F.pad(mask, (0, k.shape[2] - mask.shape[-1]))
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = F.dropout(weights, dropout)
            output = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            output = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        output = output.transpose(1, 2).flatten(-2)
        # Sequence first in memory, as the original leaves it where it does not take its fast path:
        # a dropout behind draws in the order of memory, and equal seeds shall train equally.
        if self.training or not self.batch_first:
            output = self.out_proj(output.transpose(0, 1).contiguous()).transpose(0, 1)
        else:
            output = self.out_proj(output)
        if not batched:
            return output.squeeze(0), weights
        return output if self.batch_first else output.transpose(0, 1), weights

    def release(self) -> None:
        """Give projections that are still float weights of their own, and drop the packed ones.

        For a copy that is converted: no optimizer and no checkpoint knows it.
        """
        for role in ROLES:
            projection = self.get_submodule(f"{role}_proj")
            if isinstance(projection, Projection):
                setattr(self, f"{role}_proj", _linear_of(projection))
        for name in ("in_proj_weight", "in_proj_bias", *(f"{role}_proj_weight" for role in ROLES)):
            setattr(self, name, None)

    def _heads(self, x: Tensor) -> Tensor:
        """``[L, E]``, ``[L, N, E]`` or ``[N, L, E]`` to ``[N, heads, L, E / heads]``."""
        if x.dim() == 2:
            x = x.unsqueeze(0)
        elif not self.batch_first:
            x = x.transpose(0, 1)
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _append(self, x: Tensor, bias: Tensor) -> Tensor:
        """One more key or value, ``bias``, behind ``x``: ``[N, heads, S + 1, E / heads]``."""
        heads = bias.view(1, self.num_heads, 1, self.head_dim)
        return torch.cat([x, heads.expand(x.shape[0], -1, -1, -1)], dim=2)

    def _mask(
        self, padding: Tensor | None, mask: Tensor | None, q: Tensor, k: Tensor, batched: bool
    ) -> Tensor | None:
        """Both masks in one that is added to the scores, broadcast over ``[N, heads, L, S]``."""
        samples, heads, queries, keys = *q.shape[:3], k.shape[2]
        total = None
        if mask is not None:
            each = () if mask.dim() == 2 else (samples * heads,)
            _require_shape("attn_mask", mask, (*each, queries, keys))
            mask = mask.unflatten(0, (samples, heads)) if each else mask
            total = _additive(mask, q.dtype)
        if padding is not None:
            each = (samples,) if batched else ()
            _require_shape("key_padding_mask", padding, (*each, keys))
            padding = _additive(padding[..., None, None, :], q.dtype)
            total = padding if total is None else total + padding
        return total


def projections(attention: nn.MultiheadAttention) -> dict[str, Projection]:
    """An attention's three projections by the names that they get in it."""
    return {f"{role}_proj": Projection(attention, role) for role in ROLES}


def unpack(attention: nn.MultiheadAttention) -> None:
    """Let an attention (no subclass of the original) call its linears, in place."""
    assert type(attention) is nn.MultiheadAttention
    attention.__class__ = UnpackedAttention
    out_proj = attention.out_proj
    del attention.out_proj  # and behind the others again: the order of modules is that of the calls
    for name, projection in projections(attention).items():
        attention.add_module(name, projection.train(attention.training))
    attention.out_proj = out_proj


def leave_fast_path(module: nn.Module) -> None:
    """Let a transformer encoder, or a layer of one, call its modules in eval mode too, in place.

    The fast path also writes zeros to padded positions, which mean nothing; now they hold what the
    layers make of them, as in training.
    """
    if isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = False
    elif isinstance(module, nn.TransformerEncoderLayer):
        module.activation_relu_or_gelu = 0  # "another one": it is read for the fast path alone


def _linear_of(projection: Projection) -> nn.Linear:
    """A linear with weights of its own, in eval mode."""
    weight, bias = projection.weight, projection.bias
    sizes = (projection.in_features, projection.out_features)
    linear = nn.Linear(*sizes, bias=bias is not None, device=weight.device, dtype=weight.dtype)
    linear.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return linear.eval().requires_grad_(False)


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is added to scores; ``True`` in a mask of bool forbids."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))


def _require_shape(name: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(mask.shape) != shape:
        raise UserError(f"{name} has shape {tuple(mask.shape)}: attention needs {shape} here")
