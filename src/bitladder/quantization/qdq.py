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
    eps = torch.finfo(torch.float32).eps
    scale, zero_point = _ops.choose_qparams.tensor(x, low, high, eps, dtype)
    codes = _ops.quantize_per_tensor.tensor(x, scale, zero_point, low, high, dtype)
    return _ops.dequantize_per_tensor.tensor(codes, scale, zero_point, low, high, dtype)


def quantize_weight(weight: Tensor, scale: Tensor, zero_point: Tensor, scheme: Scheme) -> Tensor:
    """The integer codes of a weight, of the dtype of the scheme's format.

    Args:
        weight: fp32.
        scale: fp32, shape ``[channels]`` along the scheme's axis.
        zero_point: Integer, of the same shape.
        scheme: The grid, per channel.
    """
    low, high, dtype = scheme.format.minimum, scheme.format.maximum, scheme.format.dtype
    axis = scheme.channel_axis
    return _ops.quantize_per_channel.default(weight, scale, zero_point, axis, low, high, dtype)


def dequantize_weight(codes: Tensor, scale: Tensor, zero_point: Tensor, scheme: Scheme) -> Tensor:
    """The fp32 weight that the codes stand for."""
    low, high, dtype = scheme.format.minimum, scheme.format.maximum, scheme.format.dtype
    axis = scheme.channel_axis
    return _ops.dequantize_per_channel.default(codes, scale, zero_point, axis, low, high, dtype)
