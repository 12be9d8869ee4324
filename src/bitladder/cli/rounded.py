"""What a format makes of a number, in exact arithmetic and in words."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch

from bitladder.cli.numbers import Number
from bitladder.formats import FloatFormat, Kind, decode, encode, fields


@dataclass(frozen=True)
class Rounded:
    """A number as a format stores it.

    Attributes:
        format: The format.
        pattern: The bits that it stores.
        stored: Their value.
        error: Distance of `stored` from the number; None where there is no distance.
        relative: The same as a share of the number.
        note: What happened to the number, in a few words.
    """

    format: FloatFormat
    pattern: int
    stored: float
    error: Fraction | None
    relative: Fraction | None
    note: str


def rounded(number: Number, format: FloatFormat, *, saturate: bool) -> Rounded:
    """Round a number to a format and say what became of it.

    Args:
        number: The number; one that was written as a pattern of `format` keeps that pattern, unless
            it is infinite and is to saturate.
        format: The format.
        saturate: As in `bitladder.formats.encode`.

    Returns:
        Pattern, value, errors and note.
    """
    x = torch.tensor(number.double, dtype=torch.float64)
    if number.format is format and number.pattern is not None:
        bits = torch.tensor(number.pattern)
    else:
        bits = encode(x, format)
    overflows = not math.isnan(number.double) and fields(bits, format).kind >= Kind.INFINITY
    if overflows and saturate:
        bits = encode(x, format, saturate=True)
    stored = decode(bits, format).item()
    error, relative = _errors(number, stored)
    kind = Kind(int(fields(bits, format).kind))
    note = _overflow(number, stored) if overflows else _rounding(kind, error)
    return Rounded(format, int(bits), stored, error, relative, note)


def _errors(number: Number, stored: float) -> tuple[Fraction | None, Fraction | None]:
    if number.double == stored and number.exact in (None, 0):
        return Fraction(0), Fraction(0)
    if number.exact is None or not math.isfinite(stored):
        return None, None
    error = abs(Fraction(stored) - number.exact)
    return error, error / abs(number.exact)


def _overflow(number: Number, stored: float) -> str:
    if math.isfinite(stored):
        return "saturates"
    if number.exact is None:
        return "exact" if math.isinf(stored) else "NaN: has no infinity"
    return f"overflows to {'inf' if math.isinf(stored) else 'NaN'}"


def _rounding(kind: Kind, error: Fraction | None) -> str:
    if error is None:
        return "NaN"
    if kind == Kind.ZERO and error:
        return "underflows to zero"
    note = "rounded" if error else "exact"
    return f"{note}, subnormal" if kind == Kind.SUBNORMAL else note
