"""Number formats: what they are, apart from who computes with them."""

from bitladder.formats.floating import (
    BF16,
    E4M3,
    E5M2,
    FLOAT_FORMATS,
    FP16,
    FP32,
    TF32,
    FloatFormat,
    get_format,
)
from bitladder.formats.integer import INT8, UINT8, IntegerFormat

__all__ = [
    "BF16",
    "E4M3",
    "E5M2",
    "FLOAT_FORMATS",
    "FP16",
    "FP32",
    "INT8",
    "TF32",
    "UINT8",
    "FloatFormat",
    "IntegerFormat",
    "get_format",
]
