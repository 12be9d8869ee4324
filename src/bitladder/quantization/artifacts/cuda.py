"""An AOTInductor package for CUDA: bf16, with linears in int8 or fp8 by torchao's ``quantize_``."""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bitladder.errors import RunError
from bitladder.quantization.artifacts.formats import CudaLinears
from bitladder.quantization.compile import trace, write_package
from bitladder.quantization.layers import QuantLinear
from bitladder.quantization.watch import Call

ALIGNMENT = 16
"""Both sizes of a weight must be divisible by it: what the tensor cores' fp8 products ask for, and
more than their int8 products do."""

_LEAST_ROWS = 17
"""CUDA's int8 product refuses fewer rows."""


class Bf16Model(nn.Module):
    """A model that computes in bf16, of the signature of one that computes in fp32.

    Floating arguments may have any precision; floating outputs are fp32.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.bfloat16()

        @functools.wraps(model.forward)  # torch.export goes by the names of its parameters
        def forward(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = _cast((args, kwargs), torch.bfloat16)
            return _cast(model(*args, **kwargs), torch.float32)

        self.forward = forward


class PaddedLinear(nn.Module):
    """A linear whose input gets so many rows of zeros that no batch is too small for it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, input: Tensor) -> Tensor:
        """The linear's output; ``input`` has any number of leading dimensions."""
        rows = input.reshape(-1, self.linear.in_features)
        output = self.linear(F.pad(rows, [0, 0, 0, _LEAST_ROWS]))[:-_LEAST_ROWS]
        return output.reshape(*input.shape[:-1], self.linear.out_features)


def write_cuda(
    model: nn.Module,
    calls: Sequence[Call],
    path: Path,
    linears: CudaLinears,
    *,
    device: torch.device | None = None,
) -> list[str]:
    """Compile a float model with quantized linears.

    Args:
        model: A float model in eval mode on the CPU; it is not changed.
        calls: Arguments of real passes, as for :func:`bitladder.quantization.compile.trace`.
        path: The file to write, ``*.pt2``.
        linears: What linears whose sizes are divisible by 16 compute in; the others stay bf16.
        device: What to compile for: a CUDA device unless given.

    Returns:
        Names of the linears that are quantized.

    Raises:
        UserError: If the model cannot be exported.
        RunError: If no linear can be quantized, or the model cannot be compiled.
    """
    device = device or torch.device("cuda")
    wrapped = Bf16Model(copy.deepcopy(model)).eval().requires_grad_(False).to(device)
    names = quantize_linears(wrapped.model, linears)
    if not names:
        raise RunError(
            f"no linear has sizes divisible by {ALIGNMENT}, so none can compute in {linears} on"
            " CUDA: leave cuda out of quantization.export"
        )
    there = [
        Call(*pytree.tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, given))
        for given in ((call.args, call.kwargs) for call in calls)
    ]
    wrapped.eval()  # torchao makes modules of its own, in training mode
    program = trace(wrapped, there)
    write_package(program, path, {})
    return names


def quantize_linears(model: nn.Module, linears: CudaLinears) -> list[str]:
    """Quantize a model's linears in place, those that the kernels can take; gives their names."""
    from torchao.quantization import quantize_
    from torchao.utils import unwrap_tensor_subclass

    chosen = {
        name: module
        for name, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, QuantLinear))
        and module.in_features % ALIGNMENT == 0
        and module.out_features % ALIGNMENT == 0
    }
    quantize_(model, _config(linears), filter_fn=lambda module, name: name in chosen)
    unwrap_tensor_subclass(model)
    if linears == "int8_dynamic":
        for name, module in chosen.items():
            model.set_submodule(name, PaddedLinear(module))
    return list(chosen)


def _config(linears: CudaLinears) -> Any:
    """Configuration of torchao, which would set options of the whole process if it were let."""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        PerRow,
    )
    from torchao.quantization.quantize_.common import KernelPreference

    match linears:
        case "int8_dynamic":
            return Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
        case "int8_weight_only":
            return Int8WeightOnlyConfig(set_inductor_config=False)
        case "fp8_dynamic":
            return Float8DynamicActivationFloat8WeightConfig(
                granularity=PerRow(),
                kernel_preference=KernelPreference.TORCH,
                set_inductor_config=False,
            )


def _cast(tree: Any, dtype: torch.dtype) -> Any:
    def cast(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

    return pytree.tree_map(cast, tree)
