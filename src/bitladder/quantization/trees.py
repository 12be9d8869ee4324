"""Arguments and outputs of a model are trees of tensors: tuples, lists and dicts."""

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
