"""From bit patterns to what they mean: fields, kinds, values."""

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from bitladder.formats.floating import FloatFormat, get_format


class Kind(IntEnum):
    """What a bit pattern stands for."""

    ZERO = 0
    SUBNORMAL = 1
    NORMAL = 2
    INFINITY = 3
    NAN = 4


class Fields(NamedTuple):
    """The parts of bit patterns, each a tensor of their shape.

    Attributes:
        sign: int64, 1 if negative, also for zeros and NaN.
        exponent: int64, as stored: with its bias.
        fraction: int64, without the implicit leading one.
        kind: uint8, a `Kind`.
    """

    sign: Tensor
    exponent: Tensor
    fraction: Tensor
    kind: Tensor


def fields(bits: Tensor, format: str | FloatFormat) -> Fields:
    """Take bit patterns apart.

    Args:
        bits: Integer tensor of any shape with patterns of `format` in its low bits. A signed
            integer of exactly the format's width may use its sign bit: `x.view(torch.int16)`.
        format: A format or its name.

    Returns:
        The fields, on the device of `bits`.

    Raises:
        UserError: If there is no such format.
        ValueError: If `bits` is not an integer tensor, or a pattern is wider than the format.
    """
    format = get_format(format)
    codes = _unsigned(bits, format)
    magnitude = codes & ((1 << (format.bits - 1)) - 1)
    exponent = magnitude >> format.fraction_bits
    kind = torch.full_like(codes, Kind.NORMAL, dtype=torch.uint8)
    kind.masked_fill_(exponent == 0, Kind.SUBNORMAL)
    kind.masked_fill_(magnitude == 0, Kind.ZERO)
    kind.masked_fill_(magnitude > format.max_pattern, Kind.NAN)
    if format.has_infinity:
        kind.masked_fill_(magnitude == format.max_pattern + 1, Kind.INFINITY)
    return Fields(
        sign=codes >> (format.bits - 1),
        exponent=exponent,
        fraction=magnitude & ((1 << format.fraction_bits) - 1),
        kind=kind,
    )


def decode(bits: Tensor, format: str | FloatFormat) -> Tensor:
    """Return the values of bit patterns.

    Args:
        bits: Integer tensor of any shape, as in `fields`.
        format: A format or its name.

    Returns:
        float32 tensor of the same shape: every number of every format is one of float32's. Zeros
        keep their sign; of a NaN nothing is kept but that it is one.

    Raises:
        UserError: If there is no such format.
        ValueError: If `bits` is not an integer tensor, or a pattern is wider than the format.
    """
    format = get_format(format)
    sign, exponent, fraction, kind = fields(bits, format)
    significand = fraction | ((exponent > 0).long() << format.fraction_bits)
    # Subnormal numbers have the power of the smallest normal ones, but no leading one.
    power = exponent.clamp(min=1) - (format.bias + format.fraction_bits)
    # The product is exact, and so is the way back from float64, in which no format is subnormal.
    value = significand.double() * _power_of_two(power)
    value.masked_fill_(kind == Kind.INFINITY, torch.inf).masked_fill_(kind == Kind.NAN, torch.nan)
    return torch.where(sign == 1, -value, value).float()


def _unsigned(bits: Tensor, format: FloatFormat) -> Tensor:
    if bits.is_floating_point() or bits.is_complex() or bits.dtype == torch.bool:
        raise ValueError(f"bit patterns are integers, not {bits.dtype}; encode() makes them")
    codes = bits.long()
    if bits.dtype.is_signed and bits.dtype.itemsize * 8 == format.bits:
        return codes & ((1 << format.bits) - 1)
    if (codes >> format.bits).any():
        raise ValueError(
            f"a pattern is outside 0 to {(1 << format.bits) - 1:#x}: {format.name} has "
            f"{format.bits} bits"
        )
    return codes


def _power_of_two(power: Tensor) -> Tensor:
    """2.0**power in float64, exactly, made from the exponent field: -1022 <= power <= 1023."""
    return ((power + 1023) << 52).view(torch.float64)
