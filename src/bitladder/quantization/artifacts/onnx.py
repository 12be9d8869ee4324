"""ONNX with quantize and dequantize nodes, from the graph that the int8 kernels come from."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitladder.errors import RunError
from bitladder.quantization.artifacts.seal import seal
from bitladder.quantization.compile import quiet, trace
from bitladder.quantization.watch import Call

OPSET = 18
"""The first of those that PyTorch's exporter writes without converting, and read everywhere."""

_ops = torch.ops.quantized_decomposed

# ONNX's numbers for dtypes; of codes and zero points:
_INTEGERS = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32}
_FLOAT = 1


def write_onnx(model: nn.Module, calls: Sequence[Call], path: Path) -> None:
    """Write a converted model as ONNX: int8 initializers, a free batch size, one file.

    Args:
        model: What :func:`bitladder.quantization.convert` gave.
        calls: Arguments of real passes, as for :func:`bitladder.quantization.compile.trace`.
        path: The file to write.

    Raises:
        UserError: If the model cannot be exported.
        RunError: If ONNX has nothing for one of its operators; names the operator.
    """
    program = trace(model, calls)
    with quiet():
        try:
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
                custom_translation_table=_translations(),
            )
        except torch.onnx.OnnxExporterError as error:
            raise RunError(f"the model cannot be written as ONNX: {_reason(error)}") from error
        assert exported is not None
        for node in exported.model.graph.all_nodes():
            node.metadata_props.clear()  # stack traces: paths of this machine
            node.doc_string = None
        _unshare_zero_points(exported.model.graph)
        exported.save(path)
    path.write_bytes(seal(path.read_bytes()))


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """ONNX for each operator of quantization; the exporter knows only a part of them."""
    op = importlib.import_module("onnxscript").opset18

    def limited(codes: Any, low: int, high: int, dtype: int) -> Any:
        """ONNX saturates at the limits of the dtype; fewer bits have narrower ones."""
        limits = torch.iinfo(_INTEGERS[int(dtype)])
        if (low, high) == (limits.min, limits.max):
            return codes
        return op.Clip(codes, _scalar(op, low, dtype), _scalar(op, high, dtype))

    def quantize(x: Any, scale: float, zero: int, low: int, high: int, dtype: int) -> Any:
        codes = op.QuantizeLinear(x, scale, _scalar(op, zero, dtype))
        return limited(codes, low, high, dtype)

    def dequantize(x: Any, scale: float, zero: int, low: int, high: int, dtype: int) -> Any:
        return op.DequantizeLinear(x, scale, _scalar(op, zero, dtype))

    def quantize_by(x: Any, scale: Any, zero: Any, low: int, high: int, dtype: int) -> Any:
        scale, zero = op.Cast(op.Squeeze(scale), to=_FLOAT), op.Cast(op.Squeeze(zero), to=dtype)
        return limited(op.QuantizeLinear(x, scale, zero), low, high, dtype)

    def dequantize_by(x: Any, scale: Any, zero: Any, low: int, high: int, dtype: int) -> Any:
        scale, zero = op.Cast(op.Squeeze(scale), to=_FLOAT), op.Cast(op.Squeeze(zero), to=dtype)
        return op.DequantizeLinear(x, scale, zero)

    def dequantize_channels(
        x: Any, scale: Any, zero: Any, axis: int, low: int, high: int, dtype: int
    ) -> Any:
        return op.DequantizeLinear(x, scale, op.Cast(zero, to=dtype), axis=axis)

    return {
        _ops.quantize_per_tensor.default: quantize,
        _ops.quantize_per_tensor.tensor: quantize_by,
        _ops.dequantize_per_tensor.default: dequantize,
        _ops.dequantize_per_tensor.tensor: dequantize_by,
        _ops.dequantize_per_channel.default: dequantize_channels,
    }


def _unshare_zero_points(graph: Any) -> None:
    """Give every dequantized weight zero points of its own; the exporter lets equal ones be one.

    ONNX Runtime's option for x86 processors without VNNI rewrites each where it is used, and fails
    at the second use.
    """
    ir = importlib.import_module("onnxscript").ir
    for node in list(graph.all_nodes()):
        if node.op_type == "DequantizeLinear" and node.inputs[0].is_initializer():
            shared = node.inputs[2]
            own = ir.Value(
                name=f"{node.inputs[0].name}_zero",
                shape=shared.shape,
                type=shared.type,
                const_value=shared.const_value,
            )
            graph.register_initializer(own)
            node.replace_input_with(2, own)
            if not shared.uses():
                del graph.initializers[shared.name]


def _scalar(op: Any, value: int, dtype: int) -> Any:
    tensor = importlib.import_module("onnxscript").ir.tensor
    return op.Constant(value=tensor(torch.tensor(value, dtype=_INTEGERS[int(dtype)])))


def _reason(error: Exception) -> str:
    """The innermost cause, without the advice that the exporter puts around it."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
