"""tf32 against arithmetic with fractions: there is no such type in ml_dtypes."""

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.formats import TF32, decode, encode

SIGN = 1 << 31
INFINITY = 0x7F800000
STEP = 1 << 13
"""From one tf32 number to the next, in the patterns of float32."""


def nearest_tf32(bits: int) -> int:
    """The float32 pattern of the tf32 number nearest to a finite float32 pattern."""
    sign, magnitude = bits & SIGN, bits & ~SIGN
    below = magnitude - magnitude % STEP
    above = below + STEP
    to_below, to_above = value(magnitude) - value(below), value(above) - value(magnitude)
    if to_below == to_above:
        return sign | (below if below // STEP % 2 == 0 else above)
    return sign | (below if to_below < to_above else above)


def value(magnitude: int) -> Fraction:
    """The value of a positive float32 pattern; infinity counts as the power of two it stands at."""
    exponent, fraction = divmod(magnitude, 1 << 23)
    leading = (1 << 23) if exponent else 0
    return (leading + fraction) * Fraction(2) ** (max(exponent, 1) - 150)


@given(st.lists(st.integers(0, 2 * SIGN - 1).filter(lambda bits: bits & ~SIGN < INFINITY)))
def test_numbers_round_to_the_nearest(patterns: list[int]) -> None:
    x = torch.from_numpy(np.array(patterns, dtype=np.uint32).view(np.float32))
    assert (encode(x, TF32) << 13).tolist() == [nearest_tf32(bits) for bits in patterns]


def test_ties_go_to_the_even_one() -> None:
    exponents = [0, 1, 2, 126, 127, 128, 253, 254]
    ties = [
        sign | exponent << 23 | fraction << 13 | STEP // 2
        for sign in (0, SIGN)
        for exponent in exponents
        for fraction in range(1 << 10)
    ]
    for shift in (-1, 0, 1):
        patterns = [bits + shift for bits in ties]
        x = torch.from_numpy(np.array(patterns, dtype=np.uint32).view(np.float32))
        assert (encode(x, TF32) << 13).tolist() == [nearest_tf32(bits) for bits in patterns]


def test_its_patterns_are_the_high_bits_of_float32() -> None:
    bits = torch.arange(1 << 19)
    as_float32 = torch.from_numpy((bits.numpy() << 13).astype(np.uint32).view(np.float32))
    torch.testing.assert_close(decode(bits, TF32), as_float32, rtol=0, atol=0, equal_nan=True)
    number = ~as_float32.isnan()
    assert torch.equal(encode(as_float32[number], TF32), bits[number])
