"""Copies of modules as they are found in the middle of a training."""

from torch import Tensor, nn

from bitladder.quantization.trees import tensors


def without_history(module: nn.Module) -> dict[int, Tensor]:
    """The memo with which ``copy.deepcopy`` takes a module that keeps its last loss, say.

    A tensor that autograd knows the history of cannot be copied; the copy gets its value alone.
    """
    kept = [x for part in module.modules() for x in tensors(vars(part)) if not x.is_leaf]
    return {id(x): x.detach() for x in kept}
