"""A ``torch.export`` program: int8 weights and plain operators, that PyTorch alone loads."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed as reference
from torch import Tensor, nn
from torch._ops import OperatorBase
from torch.export import ExportedProgram

from bitladder.quantization.compile import quiet, trace
from bitladder.quantization.package import slim
from bitladder.quantization.watch import Call

_ops = torch.ops.quantized_decomposed


def _quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, dtype: torch.dtype
) -> Tensor:
    codes = torch.round(x * (1.0 / scale).float()) + zero_point
    return codes.clamp(low, high).to(dtype)


def _dequantize(
    codes: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, dtype: torch.dtype
) -> Tensor:
    return (codes.float() - zero_point) * scale.float()


# A fresh interpreter does not know the operators of quantized_decomposed, and cannot load a file
# that names them. What each computes, in operators that it does know:
_PLAIN: dict[OperatorBase, Callable[..., Any]] = {
    _ops.quantize_per_tensor.default: reference.quantize_per_tensor,
    _ops.dequantize_per_tensor.default: reference.dequantize_per_tensor,
    _ops.dequantize_per_channel.default: reference.dequantize_per_channel,
    # PyTorch's own of these two read numbers off their tensors, which a program cannot.
    _ops.quantize_per_tensor.tensor: _quantize,
    _ops.dequantize_per_tensor.tensor: _dequantize,
}


def write_program(model: nn.Module, calls: Sequence[Call], path: Path) -> None:
    """Save a converted model as a program.

    Weights are int8 in the file; run eagerly, the program computes what the reference model does.

    Args:
        model: What :func:`bitladder.quantization.convert` gave.
        calls: Arguments of real passes, as for :func:`bitladder.quantization.compile.trace`.
        path: The file to write, ``*.pt2``.

    Raises:
        UserError: If the model cannot be exported.
    """
    program = plain(trace(model, calls))
    # Into memory first: where PyTorch's own writer meets a full disk it ends the process.
    content = BytesIO()
    with quiet():
        torch.export.save(program, content)
    path.write_bytes(content.getbuffer())
    slim(path)


def plain(program: ExportedProgram) -> ExportedProgram:
    """The same without operators that must be imported, example data and paths of sources."""
    with quiet():
        program = program.run_decompositions(_PLAIN)
    program._example_inputs = None  # samples of the training data are nobody else's business
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program
