"""From what a user writes for a number to the number, exactly."""

import math
import re
import struct
import sys
from dataclasses import dataclass
from fractions import Fraction

import torch

from bitladder.errors import UserError
from bitladder.formats import FLOAT_FORMATS, FloatFormat, decode, get_format

MAX_LENGTH = 1000
"""Characters in a value. Python itself refuses integers of 4300 digits and more."""
MAX_EXPONENT = 9999
"""Largest power of ten. Every format ends long before, and arithmetic stays quick."""

_DIGITS = "[0-9]+(?:_[0-9]+)*"
_DECIMAL = re.compile(rf"[+-]?(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:e([+-]?[0-9]+))?")
_FRACTION = re.compile(rf"[+-]?{_DIGITS}/{_DIGITS}")
_SPECIAL = re.compile(r"[+-]?(?:inf|infinity|nan)")
_PATTERN = re.compile(r"(?:([a-z0-9_]+):)?(0x[0-9a-f]+(?:_[0-9a-f]+)*|0b[01]+(?:_[01]+)*)")


@dataclass(frozen=True)
class Number:
    """A number that a user wrote.

    Attributes:
        text: What was written.
        exact: Its value; None if it is NaN or infinite.
        double: A float that every format rounds to what it rounds `exact` to; also NaN, infinities
            and zeros with their sign.
        format: The format of the bit pattern that was written, if one was.
        pattern: That bit pattern.
    """

    text: str
    exact: Fraction | None
    double: float
    format: FloatFormat | None = None
    pattern: int | None = None


def parse(text: str) -> Number:
    """Read a decimal number, a fraction, `nan`, `inf`, or a format's bit pattern.

    Raises:
        UserError: If it is none of these, or out of all bounds; the message says what to write.
    """
    if len(text) > MAX_LENGTH:
        raise UserError(f"{text[:20]}... has {len(text)} characters; write at most {MAX_LENGTH}")
    text = text.strip()
    plain = text.lower()
    if match := _PATTERN.fullmatch(plain):
        return _pattern(text, *match.groups())
    if _SPECIAL.fullmatch(plain):
        return Number(text, None, float(plain))
    if match := _DECIMAL.fullmatch(plain):
        if abs(int(match[1] or 0)) > MAX_EXPONENT:
            raise UserError(
                f"{text} is beyond 1e-{MAX_EXPONENT} to 1e{MAX_EXPONENT}; "
                "write a number between them, or inf or 0"
            )
    elif not _FRACTION.fullmatch(plain):
        raise UserError(
            f"{text!r} is not a number; write one like 0.1, -1e-8, 1/3, nan or -inf, "
            "or a bit pattern like fp16:0x3c00"
        )
    try:
        exact = Fraction(plain)
    except ZeroDivisionError:
        raise UserError(f"{text} divides by zero; write inf or nan") from None
    zero = -0.0 if plain.startswith("-") else 0.0
    return Number(text, exact, round_to_odd(exact) if exact else zero)


def round_to_odd(exact: Fraction) -> float:
    """Return a float from which narrower formats round to the same as from `exact`.

    It is one of the two floats next to `exact`: the one with an odd last bit. Like a sticky bit it
    then says that `exact` is no tie between two numbers of a format at least two bits narrower, and
    on which side it lies (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums:
    proved algorithms using rounding to odd", IEEE Transactions on Computers 57, 2008).
    """
    try:
        nearest = float(exact)
    except OverflowError:
        return sys.float_info.max if exact > 0 else -sys.float_info.max
    is_odd = struct.pack("<d", nearest)[0] & 1
    if exact == Fraction(nearest) or is_odd:
        return nearest
    return math.nextafter(nearest, math.inf if exact > Fraction(nearest) else -math.inf)


def _pattern(text: str, name: str | None, digits: str) -> Number:
    pattern = int(digits, 0)
    if name is None:
        raise UserError(f"{text} is a bit pattern of which format? write {_candidates(digits)}")
    format = get_format(name)
    if pattern >> format.bits:
        last = (1 << format.bits) - 1
        raise UserError(
            f"{text} is wider than {format.name}; write at most {format.name}:{last:#x}"
        )
    double = decode(torch.tensor(pattern), format).item()
    exact = Fraction(double) if math.isfinite(double) else None
    return Number(text, exact, double, format, pattern)


def _candidates(digits: str) -> str:
    """The pattern as one of every format that is as wide, or else of every format."""
    base, count = digits[:2], len(digits[2:].replace("_", ""))
    width = count * 4 if base == "0x" else count
    names = [name for name, format in FLOAT_FORMATS.items() if 0 <= width - format.bits < 4]
    return " or ".join(f"{name}:{digits}" for name in names or FLOAT_FORMATS)
