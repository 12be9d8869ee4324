"""Floating-point formats: how wide their fields are, and the limits that follow from that."""

import difflib
import math
from dataclasses import dataclass

import torch

from bitladder.errors import UserError


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format: a sign bit, a biased exponent, a fraction.

    With exponent field `e` and fraction field `f`, a normal number (`e > 0`) is
    `2**(e - bias) * (1 + f / 2**fraction_bits)`: its leading one is implicit. `e == 0` holds zero
    and the subnormal numbers, `2**(1 - bias) * f / 2**fraction_bits`. `has_infinity` says what the
    top exponent holds. Specifications: IEEE 754-2019; OCP 8-bit Floating Point (OFP8), rev. 1.0.

    Args:
        name: The name people use, such as `fp16`.
        exponent_bits: Width of the exponent field.
        fraction_bits: Width of the fraction field, without the implicit leading one.
        bias: What the exponent field counts from.
        dtype: The torch dtype that stores it; a format without one is stored in a wider dtype.
        has_infinity: True if the top exponent holds infinity (fraction 0) and NaN (any other
            fraction), as in IEEE 754. False if it holds normal numbers like any other exponent, but
            for the fraction of all ones, which is NaN: the "fn" rule of float8_e4m3fn.
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int
    dtype: torch.dtype
    has_infinity: bool = True

    @property
    def bits(self) -> int:
        """Width of a pattern; its sign is the highest bit."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def max(self) -> float:
        """The largest finite number."""
        exponent, fraction = divmod(self.max_pattern, 1 << self.fraction_bits)
        significand = (1 << self.fraction_bits) + fraction
        return math.ldexp(significand, exponent - self.bias - self.fraction_bits)

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number with a leading one."""
        return math.ldexp(1.0, 1 - self.bias)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive number."""
        return math.ldexp(1.0, 1 - self.bias - self.fraction_bits)

    @property
    def epsilon(self) -> float:
        """The distance from 1 to the next larger number."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def max_pattern(self) -> int:
        """The pattern of `max`. The one above it is what an overflow gives: infinity, else NaN."""
        top = (1 << self.exponent_bits) - 1
        infinity = top << self.fraction_bits
        all_ones = infinity | ((1 << self.fraction_bits) - 1)
        return (infinity if self.has_infinity else all_ones) - 1

    @property
    def nan_pattern(self) -> int:
        """The pattern of the positive NaN that an operation gives (a quiet one, no payload)."""
        quiet = 1 << (self.fraction_bits - 1) if self.has_infinity else 0
        return (self.max_pattern + 1) | quiet


FP32 = FloatFormat("fp32", 8, 23, bias=127, dtype=torch.float32)
# What tensor cores read of a float32: its sign, its exponent and ten bits of its fraction.
TF32 = FloatFormat("tf32", 8, 10, bias=127, dtype=torch.float32)
FP16 = FloatFormat("fp16", 5, 10, bias=15, dtype=torch.float16)
BF16 = FloatFormat("bf16", 8, 7, bias=127, dtype=torch.bfloat16)
E4M3 = FloatFormat("e4m3", 4, 3, bias=7, dtype=torch.float8_e4m3fn, has_infinity=False)
E5M2 = FloatFormat("e5m2", 5, 2, bias=15, dtype=torch.float8_e5m2)

FLOAT_FORMATS = {format.name: format for format in (FP32, TF32, FP16, BF16, E4M3, E5M2)}
"""Every floating-point format by its name, down the ladder."""


def get_format(format: str | FloatFormat) -> FloatFormat:
    """Return the floating-point format of that name, or the format itself.

    Raises:
        UserError: If there is none; the message names the nearest and all there are.
    """
    if isinstance(format, FloatFormat):
        return format
    if format in FLOAT_FORMATS:
        return FLOAT_FORMATS[format]
    nearest = difflib.get_close_matches(format, FLOAT_FORMATS, n=1, cutoff=0.5)
    meant = f"; did you mean {nearest[0]}?" if nearest else ""
    raise UserError(f"there is no float format {format}{meant} ({', '.join(FLOAT_FORMATS)})")
