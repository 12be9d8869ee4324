"""Arguments and outputs of a model are trees of tensors: tuples, lists and dicts."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in its order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def on_cpu(tree: Any) -> Any:
    """The same tree with its tensors detached, on the CPU, floating ones in fp32."""

    def plain(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        leaf = leaf.detach().cpu()
        return leaf.float() if leaf.is_floating_point() else leaf

    return pytree.tree_map(plain, tree)


def plain(tree: Any) -> Any:
    """The same tree made of dicts, lists and tuples only, leaves in the same order.

    A library's own kind of dict (or a named tuple) becomes the plain one: whoever reads it need
    not have that library.
    """
    kind = pytree._get_node_type(tree)
    if kind not in pytree.SUPPORTED_NODES:
        return tree
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    children, _ = pytree.SUPPORTED_NODES[kind].flatten_fn(tree)
    return tuple(plain(child) for child in children)


def in_shape_of(example: Any, run: Callable[..., Any]) -> Callable[..., Any]:
    """``run``, its outputs put back into containers like those of ``example``."""
    shape = pytree.tree_structure(example)

    def call(*args: Any, **kwargs: Any) -> Any:
        return pytree.tree_unflatten(pytree.tree_leaves(run(*args, **kwargs)), shape)

    return call
