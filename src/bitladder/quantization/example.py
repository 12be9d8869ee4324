"""The call that a module is exported with, and which of its dimensions stay free."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from bitladder.errors import UserError
from bitladder.quantization.trees import tensors
from bitladder.quantization.verify import tensors_sqnr
from bitladder.quantization.watch import Call

SAME_DB = 30.0
"""Less noise than this is rounding, of two batches that are computed in another order."""


def example_call(model: nn.Module, calls: Sequence[Call]) -> tuple[Call, Any]:
    """The call to export with, and which dimensions are free: the tree of its arguments by name.

    Dimension 0 of every tensor that has the batch's size is free, and every other dimension that is
    not the same in all calls. The exporter takes a size of one for a constant, so where all batches
    hold one sample, the example is one of them twice.

    Raises:
        UserError: If the calls pass different tensors, or none has two of each free dimension.
    """
    signature = inspect.signature(model.forward)
    trees = [dict(signature.bind(*call.args, **call.kwargs).arguments) for call in calls]
    shapes = [[x.shape for x in tensors(tree)] for tree in trees]
    free = _free_dimensions(shapes)
    for call, tree, sizes in zip(calls, trees, shapes, strict=True):
        if any(free) and all(x[d] > 1 for x, dims in zip(sizes, free, strict=True) for d in dims):
            return call, _marked(tree, free)
    for call, tree, sizes in zip(calls, trees, shapes, strict=True):
        if _holds_one_sample(sizes, free):
            return _doubled(model, call, tree, free), _marked(tree, free)
    raise UserError(
        "the model cannot be exported with a free batch size: the example batch must hold at least"
        " two samples; write a larger data.batch_size"
    )


def _free_dimensions(shapes: Sequence[Sequence[torch.Size]]) -> list[set[int]]:
    """Which dimensions are free, by tensor."""
    if len({tuple(len(shape) for shape in call) for call in shapes}) > 1:
        raise UserError(
            "the model cannot be exported: its calls differ in which tensors they pass; always pass"
            " the same ones"
        )
    batches = [next((shape[0] for shape in call if shape), 0) for call in shapes]
    free: list[set[int]] = []
    for sizes in zip(*shapes, strict=True):
        free.append({d for d, size in enumerate(zip(*sizes, strict=True)) if len(set(size)) > 1})
        if sizes[0] and all(x[0] == batch for x, batch in zip(sizes, batches, strict=True)):
            free[-1].add(0)
    return free


def _marked(tree: dict[str, Any], free: list[set[int]]) -> Any:
    """The tree with each tensor's free dimensions in its place."""
    marks = iter([dict.fromkeys(dims, Dim.DYNAMIC) or None for dims in free])
    leaves, spec = pytree.tree_flatten(tree)
    return pytree.tree_unflatten(
        [next(marks) if isinstance(x, Tensor) else None for x in leaves], spec
    )


def _holds_one_sample(sizes: Sequence[torch.Size], free: list[set[int]]) -> bool:
    """Whether a batch of two of this call's sample would be an example."""
    one = all(x[0] == 1 for x, dims in zip(sizes, free, strict=True) if 0 in dims)
    others = [x[d] for x, dims in zip(sizes, free, strict=True) for d in dims - {0}]
    return one and any(0 in dims for dims in free) and all(size > 1 for size in others)


def _doubled(model: nn.Module, call: Call, tree: dict[str, Any], free: list[set[int]]) -> Call:
    """The call's one sample twice, if the model makes of it what it makes of one, twice."""
    batch = {id(x) for x, dims in zip(tensors(tree), free, strict=True) if 0 in dims}

    def double(leaf: Any) -> Any:
        return torch.cat([leaf, leaf]) if id(leaf) in batch else leaf

    args, kwargs = pytree.tree_map(double, (call.args, call.kwargs))
    one = tensors(model(*call.args, **call.kwargs))
    try:
        two = tensors(model(*args, **kwargs))
    except Exception as error:  # whatever the model's own code raises
        raise UserError(
            f"the model takes batches of one sample alone ({type(error).__name__}: {error}), and no"
            " artifact has a fixed batch size: let it take any"
        ) from error
    expected = [
        torch.cat([x, x]) if x.dim() and y.shape != x.shape else x
        for x, y in zip(one, two, strict=True)
    ]
    same = all(x.shape == y.shape for x, y in zip(expected, two, strict=True))
    if not same or not tensors_sqnr(zip(expected, two, strict=True)) >= SAME_DB:
        raise UserError(
            "the model cannot be exported with a free batch size: every batch holds one sample, and"
            " two of the same are not computed as one is; write a larger data.batch_size"
        )
    return Call(args, kwargs)
