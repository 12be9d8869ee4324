"""Gradients of fp16 convolutions on the CPU, by kernels that are not the reference."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class FastConvolutionGradients(TorchDispatchMode):
    """Computes the gradients of fp16 convolutions in float32, and rounds them to fp16 once.

    The numbers are fp16's: the factors are, every product of two of them is exact in float32, and
    a GPU's tensor cores, too, add in float32 and round at the end. So does the kernel that PyTorch
    takes for it on CPUs, oneDNN's reference, in 30 to 150 times the time. The two may differ where
    another order of the sums rounds to the other neighbour.

    Active while backward runs; GPUs' convolutions and other formats' pass through.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Dispatch one operation."""
        given = dict(kwargs or {})
        if func is not torch.ops.aten.convolution_backward.default or not _is_half_on_cpu(args[0]):
            return func(*args, **given)
        gradients = func(*(x.float() if isinstance(x, Tensor) else x for x in args), **given)
        return tuple(x if x is None else x.half() for x in gradients)


def _is_half_on_cpu(x: Tensor) -> bool:
    return x.dtype is torch.float16 and x.device.type == "cpu"
