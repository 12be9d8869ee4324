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
from bitladder.formats.patterns import Fields, Kind, decode, fields
from bitladder.formats.rounding import encode, round_to

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
    "Fields",
    "FloatFormat",
    "IntegerFormat",
    "Kind",
    "decode",
    "encode",
    "fields",
    "get_format",
    "round_to",
]
