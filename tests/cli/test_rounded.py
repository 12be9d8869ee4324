from decimal import Decimal
from fractions import Fraction

import pytest

from bitladder.cli.numbers import parse
from bitladder.cli.rounded import Rounded, rounded
from bitladder.formats import FLOAT_FORMATS


def result(text: str, format: str, *, saturate: bool = False) -> Rounded:
    return rounded(parse(text), FLOAT_FORMATS[format], saturate=saturate)


def test_errors_are_against_what_was_written() -> None:
    # Not against the float64 nearest to 0.1, which lies 5.6e-18 above it.
    rounding = result("0.1", "fp32")
    assert rounding.pattern == 0x3DCCCCCD
    assert rounding.stored == float(Decimal("0.100000001490116119384765625"))
    assert rounding.error == Fraction(Decimal("0.000000001490116119384765625"))
    assert rounding.relative == Fraction(Decimal("0.00000001490116119384765625"))


def test_a_negative_number_has_positive_errors() -> None:
    rounding = result("-1e-8", "bf16")
    assert rounding.error == abs(Fraction(rounding.stored)) - Fraction(1, 10**8)
    assert rounding.relative == abs(Fraction(rounding.stored)) * 10**8 - 1


@pytest.mark.parametrize(
    ("text", "format", "stored", "note"),
    [
        ("0.1", "fp16", "0.0999755859375", "rounded"),
        ("0.5", "e5m2", "0.5", "exact"),
        ("1e-7", "fp16", "1.1920928955078125e-07", "rounded, subnormal"),
        ("1/512", "e4m3", "0.001953125", "exact, subnormal"),
        ("1e-8", "fp16", "0.0", "underflows to zero"),
        ("-1e-8", "fp16", "-0.0", "underflows to zero"),
        ("1e-9999", "fp32", "0.0", "underflows to zero"),
        ("0", "fp16", "0.0", "exact"),
        ("-0.0", "e4m3", "-0.0", "exact"),
        ("65519.99", "fp16", "65504.0", "rounded"),
        ("65520", "fp16", "inf", "overflows to inf"),
        ("-65520", "fp16", "-inf", "overflows to inf"),
        ("464", "e4m3", "448.0", "rounded"),
        ("464.0000000000000000000000000001", "e4m3", "nan", "overflows to NaN"),
        ("1e9999", "fp32", "inf", "overflows to inf"),
        ("inf", "bf16", "inf", "exact"),
        ("-inf", "e4m3", "nan", "NaN: has no infinity"),
        ("nan", "fp32", "nan", "NaN"),
        ("nan", "e4m3", "nan", "NaN"),
    ],
)
def test_notes(text: str, format: str, stored: str, note: str) -> None:
    rounding = result(text, format)
    assert (str(rounding.stored), rounding.note) == (stored, note)


@pytest.mark.parametrize(
    ("text", "format", "stored", "note"),
    [
        ("-1e6", "e4m3", -448, "saturates"),
        ("inf", "fp16", 65504, "saturates"),
        ("fp16:0xfc00", "fp16", -65504, "saturates"),
        ("464", "e4m3", 448, "rounded"),
        ("1", "e4m3", 1, "exact"),
    ],
)
def test_saturation(text: str, format: str, stored: float, note: str) -> None:
    rounding = result(text, format, saturate=True)
    assert (rounding.stored, rounding.note) == (stored, note)


def test_nan_does_not_saturate() -> None:
    assert result("nan", "e5m2", saturate=True).note == "NaN"


@pytest.mark.parametrize("text", ["0", "-0", "inf"])
def test_no_error_without_a_size(text: str) -> None:
    rounding = result(text, "fp16")
    assert (rounding.error, rounding.relative) == (0, 0)


@pytest.mark.parametrize(("text", "saturate"), [("nan", False), ("1e6", False), ("inf", True)])
def test_no_distance_to_or_from_what_is_not_finite(text: str, saturate: bool) -> None:
    rounding = result(text, "fp16", saturate=saturate)
    assert (rounding.error, rounding.relative) == (None, None)


@pytest.mark.parametrize("saturate", [False, True])
def test_a_pattern_is_shown_as_written_in_its_own_format(saturate: bool) -> None:
    assert result("fp16:0xfe01", "fp16", saturate=saturate).pattern == 0xFE01
    assert result("fp16:0xfe01", "bf16").pattern in (0x7FC0, 0xFFC0)
