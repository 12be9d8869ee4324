"""The quantize and dequantize operators that PyTorch's Inductor turns into int8 kernels."""

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import Tensor

from bitladder.quantization.scheme import Scheme

_ops = torch.ops.quantized_decomposed


def quantize_dequantize(x: Tensor, scale: float, zero_point: int, scheme: Scheme) -> Tensor:
    """``x`` (fp32, any shape) through integer codes with a fixed scale, per tensor."""
    low, high, dtype = scheme.format.minimum, scheme.format.maximum, scheme.format.dtype
    codes = _ops.quantize_per_tensor.default(x, scale, zero_point, low, high, dtype)
    return _ops.dequantize_per_tensor.default(codes, scale, zero_point, low, high, dtype)


def quantize_dequantize_dynamic(x: Tensor, scheme: Scheme) -> Tensor:
    """``x`` (fp32, any shape) through integer codes with the scale of its own range."""
    low, high, dtype = scheme.format.minimum, scheme.format.maximum, scheme.format.dtype
    if scheme.per == "token":
        rows = scheme.rows(x)
        scale, zero_point = scheme.qparams(*scheme.extremes(rows))
        codes = quantize_rows(rows, scale, zero_point, scheme)
        return dequantize_rows(codes, scale, zero_point, scheme).reshape(x.shape)
    # Not `choose_qparams`: compiled, it forgets that zero must be on the grid. Of a dimension,
    # because the ONNX exporter knows no other extremes.
    minimum, maximum = torch.aminmax(x.flatten(), dim=0)
    scale, zero_point = scheme.qparams(minimum, maximum)
    codes = _ops.quantize_per_tensor.tensor(x, scale, zero_point, low, high, dtype)
    return _ops.dequantize_per_tensor.tensor(codes, scale, zero_point, low, high, dtype)


def quantize_rows(rows: Tensor, scale: Tensor, zero_point: Tensor, scheme: Scheme) -> Tensor:
    """Integer codes, of the dtype of the scheme's format.

    Args:
        rows: fp32, a weight or what :meth:`Scheme.rows` makes of an input.
        scale: fp32, shape ``[rows]``: one for each index of axis 0.
        zero_point: Integer, of the same shape.
        scheme: The grid.
    """
    low, high, dtype = scheme.format.minimum, scheme.format.maximum, scheme.format.dtype
    return _ops.quantize_per_channel.default(rows, scale, zero_point, 0, low, high, dtype)


def dequantize_rows(codes: Tensor, scale: Tensor, zero_point: Tensor, scheme: Scheme) -> Tensor:
    """What the codes stand for, fp32."""
    low, high, dtype = scheme.format.minimum, scheme.format.maximum, scheme.format.dtype
    return _ops.dequantize_per_channel.default(codes, scale, zero_point, 0, low, high, dtype)
