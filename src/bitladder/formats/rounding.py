"""From values to the nearest bit pattern of a format."""

import torch
from torch import Tensor

from bitladder.formats.floating import FloatFormat, get_format
from bitladder.formats.patterns import decode

# Fields of float64, which holds every value that comes in.
_FRACTION_BITS = 52
_BIAS = 1023
_LEADING_ONE = 1 << _FRACTION_BITS
_INFINITY = 2047 << _FRACTION_BITS

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The signed integer of as many bytes."""


def encode(x: Tensor, format: str | FloatFormat, saturate: bool = False) -> Tensor:
    """Return the bit patterns of the numbers nearest to `x`, the even one of two as near.

    The rounding is integer arithmetic on the fields of float64, to which every other dtype converts
    exactly. So it is done once, from the exact value and without a way through float32, and does
    not depend on what a device or a version of PyTorch makes of a cast.

    Args:
        x: Floating-point tensor of any shape and dtype, on any device.
        format: A format or its name.
        saturate: What becomes of a number that rounds to beyond the largest finite one, and of an
            infinity. False: infinity with the same sign, or NaN in a format without infinity
            (e4m3). True: the largest finite number with the same sign, for infinities as well. Both
            are the conversions of OCP 8-bit Floating Point (OFP8), revision 1.0, here for all
            formats.

    Returns:
        int64 tensor of the same shape, `0 <= pattern < 2**format.bits`, so 19 bits for tf32. NaN
        gives the format's quiet NaN with the same sign, whatever `saturate` says.

    Raises:
        UserError: If there is no such format.
        ValueError: If `x` is not a floating-point tensor.
    """
    format = get_format(format)
    if not x.is_floating_point():
        raise ValueError(f"only floating-point tensors are rounded, not {x.dtype}")
    x = x.detach()
    # Not from the float64: CUDA's conversions give every NaN the same sign.
    sign = (x.view(_INTEGERS[x.dtype.itemsize]) < 0).long()
    magnitude = x.double().view(torch.int64) & (2**63 - 1)
    # Zero and float64's subnormal numbers have no leading one, but are too small for it to matter.
    significand = (magnitude & (_LEADING_ONE - 1)) | _LEADING_ONE
    # The exponent in the format's bias: what lies below its smallest normal number is rounded to
    # multiples of the smallest subnormal one, like the binade above.
    exponent = (magnitude >> _FRACTION_BITS) - (_BIAS - format.bias)
    binade = exponent.clamp(min=1)
    # How many low bits of the significand the format does not have; of 54 or more nothing is left.
    dropped = (binade - exponent + (_FRACTION_BITS - format.fraction_bits)).clamp(max=54)
    is_odd = (significand >> dropped) & 1
    half = torch.ones_like(dropped) << (dropped - 1)
    rounded = (significand + half - 1 + is_odd) >> dropped
    # `rounded` has the leading one that the pattern leaves out. It adds one to the exponent field,
    # and a carry out of the fraction, or from the subnormal into the normal numbers, another.
    pattern = rounded + ((binade - 1) << format.fraction_bits)
    pattern = pattern.clamp(max=format.max_pattern + (0 if saturate else 1))
    pattern = pattern.masked_fill(magnitude > _INFINITY, format.nan_pattern)
    return pattern | (sign << (format.bits - 1))


def round_to(x: Tensor, format: str | FloatFormat, saturate: bool = False) -> Tensor:
    """Return the numbers of `format` nearest to `x`, the even one of two as near.

    Args:
        x: Floating-point tensor of any shape and dtype, on any device; float64 is rounded once.
        format: A format or its name.
        saturate: False: overflow gives infinity, or NaN in e4m3. True: it gives the largest finite
            number. `encode` says it in full.

    Returns:
        float32 tensor of the same shape, whatever the dtype of `x`: float32 holds every number of
        every format, which narrower dtypes do not. No gradient flows through it.

    Raises:
        UserError: If there is no such format.
        ValueError: If `x` is not a floating-point tensor.
    """
    return decode(encode(x, format, saturate), format)
