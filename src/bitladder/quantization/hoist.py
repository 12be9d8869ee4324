"""Rounding moved up in a graph, to where the kernel before it can do it.

A layer rounds its input. Where a pooling or a concatenation stands between two layers, that comes
after it, and the tensor between is float. Rounding is monotonic and looks at one value at a time:
the greatest of rounded values is the rounded greatest, and moving values about changes none.
So rounding *before* such an operation gives the same codes, and only integers pass between layers.
"""

from typing import Any

import torch
from torch.fx import Graph, Node

aten = torch.ops.aten

_CHOOSING = {aten.max_pool1d.default, aten.max_pool2d.default}
_MOVING = {
    aten.cat.default,
    aten.contiguous.default,
    aten.flatten.using_ints,
    aten.permute.default,
    aten.reshape.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
}
_QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default


def hoist_rounding(graph: Graph) -> int:
    """Round before an operation what is rounded right behind it, in place.

    Only where everything that takes the operation's output rounds it in one and the same way:
    otherwise the operation would be computed twice.

    Args:
        graph: A graph of ATen operators with `quantize_per_tensor`, as `torch.export` gives it.

    Returns:
        How many operations compute on integers now.
    """
    moved = 0
    # From the end to the start, so that rounding climbs through several operations in a row.
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and node.target in _CHOOSING | _MOVING and node.users:
            ways = {_way(user, node) for user in node.users}
            if len(ways) == 1 and (way := ways.pop()) is not None:
                _round_before(graph, node, way)
                moved += 1
    return moved


def _way(user: Node, node: Node) -> tuple[Any, ...] | None:
    """Scale, zero point and limits with which `user` rounds `node`; None if it does not."""
    if user.target is not _QUANTIZE or user.args[0] is not node:
        return None
    return tuple(user.args[1:])


def _round_before(graph: Graph, node: Node, way: tuple[Any, ...]) -> None:
    rounded: dict[Node, Node] = {}
    with graph.inserting_before(node):
        for value in node.all_input_nodes:
            if isinstance(value.meta.get("val"), torch.Tensor):
                rounded[value] = graph.call_function(_QUANTIZE, (value, *way))
                rounded[value].meta = {
                    **value.meta,
                    "val": value.meta["val"].to(way[-1]),
                }
    for value, codes in rounded.items():
        node.replace_input_with(value, codes)
    node.meta = {**node.meta, "val": node.meta["val"].to(way[-1])}
    for user in list(node.users):
        user.replace_all_uses_with(node)
        graph.erase_node(user)
