import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitladder.cli.numbers import parse, round_to_odd
from bitladder.errors import UserError
from bitladder.formats import FLOAT_FORMATS, FP16, FloatFormat, decode, encode


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("0.1", Fraction(1, 10)),
        ("-1e-8", Fraction(-1, 10**8)),
        ("+1E3", Fraction(1000)),
        ("1_000.5", Fraction(2001, 2)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        (" 2 ", Fraction(2)),
        ("-1/3", Fraction(-1, 3)),
        ("fp16:0x3c00", Fraction(1)),
        ("FP16:0X3C00", Fraction(1)),
        ("e4m3:0b1_0000_001", Fraction(-1, 512)),
        ("fp32:0x1", Fraction(1, 2**149)),
        ("tf32:0x1fc00", Fraction(1)),
    ],
)
def test_values_are_read_exactly(text: str, exact: Fraction) -> None:
    assert parse(text).exact == exact


@pytest.mark.parametrize("text", ["nan", "-NaN", "fp16:0x7e01", "e4m3:0x7f"])
def test_nan(text: str) -> None:
    number = parse(text)
    assert number.exact is None
    assert math.isnan(number.double)


@pytest.mark.parametrize("text", ["inf", "+Infinity", "e5m2:0x7c"])
def test_infinity(text: str) -> None:
    assert (parse(text).exact, parse(text).double) == (None, math.inf)


@pytest.mark.parametrize(
    ("text", "sign"),
    [("0", 1), ("0.0", 1), ("-0", -1), ("-0.0e5", -1), ("-0/3", -1), ("bf16:0x8000", -1)],
)
def test_zeros_keep_their_sign(text: str, sign: int) -> None:
    number = parse(text)
    assert (number.exact, number.double) == (0, 0)
    assert math.copysign(1, number.double) == sign


def test_a_pattern_is_kept() -> None:
    number = parse("fp16:0x7e01")
    assert (number.format, number.pattern) == (FP16, 0x7E01)


@pytest.mark.parametrize("text", ["1e9999", "-1e9999", "1e-9999", "-1e-9999"])
def test_numbers_beyond_float64_do_not_become_infinite_or_zero(text: str) -> None:
    double = parse(text).double
    assert math.isfinite(double)
    assert double != 0
    assert (double < 0) == text.startswith("-")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a number; write one like 0.1"),
        ("foo", "'foo' is not a number"),
        ("0,1", "'0,1' is not a number"),
        ("1__0", "'1__0' is not a number"),
        ("--1", "'--1' is not a number"),
        ("1e", "'1e' is not a number"),
        ("1/2/3", "'1/2/3' is not a number"),
        ("0x", "'0x' is not a number"),
        ("٣", "'٣' is not a number"),
        ("\x1b[31m1", r"'\\x1b\[31m1' is not a number"),
        ("1/0", "1/0 divides by zero; write inf or nan"),
        ("1e10000", "1e10000 is beyond 1e-9999 to 1e9999; write"),
        ("1e-99999999999", "1e-99999999999 is beyond"),
        ("1" * 1001, r"11111111111111111111\.\.\. has 1001 characters; write at most 1000"),
        ("0x3c00", "0x3c00 is a bit pattern of which format.*write fp16:0x3c00 or bf16:0x3c00"),
        ("0x3f800000", "which format.*write fp32:0x3f800000$"),
        ("0b0_1111_110", "which format.*write e4m3:0b0_1111_110 or e5m2:0b0_1111_110$"),
        ("0x1ee66", "which format.*write tf32:0x1ee66$"),
        ("0x0", "which format.*write fp32:0x0 or tf32:0x0 or"),
        ("fp16:0x10000", "fp16:0x10000 is wider than fp16; write at most fp16:0xffff"),
        ("tf32:0x80000", "is wider than tf32; write at most tf32:0x7ffff"),
        ("fp15:0x1", "there is no float format fp15; did you mean fp16"),
        ("fp16:12", "'fp16:12' is not a number"),
        ("fp16:0xg", "'fp16:0xg' is not a number"),
    ],
)
def test_nonsense_is_answered_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(text)


@given(st.text(max_size=12) | st.from_regex(r"[-+0-9a-fx:./_]{1,12}"))
def test_any_text_is_a_number_or_is_refused(text: str) -> None:
    try:
        number = parse(text)
    except UserError:
        return
    assert number.exact is not None or not math.isfinite(number.double)


@st.composite
def near_ties(draw: st.DrawFn) -> tuple[FloatFormat, int, Fraction]:
    """A format, the pattern below a tie, and a distance from the tie as a share of the step."""
    format = draw(st.sampled_from(list(FLOAT_FORMATS.values())))
    pattern = draw(st.integers(0, format.max_pattern - 1))
    # From steps of float64 up, and far below them.
    distance = Fraction(draw(st.integers(-9, 9)), 2 ** draw(st.integers(20, 100)))
    return format, pattern, distance


@settings(max_examples=300)
@given(near_ties(), st.sampled_from([1, -1]))
def test_rounding_by_way_of_odd_is_rounding_once(
    near_tie: tuple[FloatFormat, int, Fraction], sign: int
) -> None:
    format, pattern, distance = near_tie
    patterns = torch.tensor([pattern, pattern + 1])
    low, high = map(Fraction, decode(patterns, format).tolist())
    exact = (low + high) / 2 + distance * (high - low)
    double = torch.tensor(round_to_odd(sign * exact), dtype=torch.float64)
    magnitude = int(encode(double, format)) & ((1 << (format.bits - 1)) - 1)
    goes_up = distance > 0 or (distance == 0 and pattern % 2 == 1)
    assert magnitude == pattern + goes_up


@given(st.fractions() | st.fractions(-1, 1).map(lambda share: share / 2**1060))
def test_what_is_no_float_becomes_the_odd_one_beside_it(exact: Fraction) -> None:
    double = round_to_odd(exact)
    if Fraction(double) != exact:
        neighbours = math.nextafter(double, -math.inf), math.nextafter(double, math.inf)
        assert Fraction(neighbours[0]) < exact < Fraction(neighbours[1])
        assert int(torch.tensor(double, dtype=torch.float64).view(torch.int64)) % 2 == 1
