import math
import struct
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitladder.errors import UserError
from bitladder.formats import (
    E4M3,
    E5M2,
    FLOAT_FORMATS,
    FP16,
    FP32,
    FloatFormat,
    decode,
    encode,
    round_to,
)

formats = st.sampled_from(list(FLOAT_FORMATS.values()))
# From patterns, so that every exponent is as likely: infinities too, subnormal numbers, zeros.
numbers = (
    st.binary(min_size=8, max_size=8)
    .map(lambda pattern: struct.unpack("<d", pattern)[0])
    .filter(lambda number: not math.isnan(number))
)
near_the_formats = st.floats(-1e6, 1e6) | st.floats(-1e-6, 1e-6) | st.floats(width=32)
doubles = numbers | near_the_formats.filter(lambda number: not math.isnan(number))


def rounded(number: float, format: FloatFormat, *, saturate: bool = False) -> float:
    return round_to(torch.tensor(number, dtype=torch.float64), format, saturate=saturate).item()


def extended(pattern: int, format: FloatFormat) -> Fraction:
    """The value of a finite positive pattern, or of the one above, were there another number."""
    exponent, fraction = divmod(pattern, 1 << format.fraction_bits)
    leading = (1 << format.fraction_bits) if exponent else 0
    power = max(exponent, 1) - format.bias - format.fraction_bits
    return (leading + fraction) * Fraction(2) ** power


@settings(max_examples=500)
@given(doubles.filter(math.isfinite), formats)
def test_nothing_is_nearer(number: float, format: FloatFormat) -> None:
    pattern = int(encode(torch.tensor(number, dtype=torch.float64), format))
    magnitude = pattern & ((1 << (format.bits - 1)) - 1)
    assert pattern >> (format.bits - 1) == (math.copysign(1, number) < 0)
    exact = abs(Fraction(number))
    if magnitude > format.max_pattern:
        # At and above the tie with the number that would come next, whose pattern is even or odd
        # like that of any other.
        largest = extended(magnitude - 1, format)
        tie = (largest + extended(magnitude, format)) / 2
        assert exact > tie or (exact == tie and magnitude % 2 == 0)
        return
    distance = abs(extended(magnitude, format) - exact)
    for neighbour in {max(magnitude - 1, 0), magnitude + 1} - {magnitude}:
        other = abs(extended(neighbour, format) - exact)
        assert distance < other or (distance == other and magnitude % 2 == 0)


@given(doubles, formats, st.booleans())
def test_a_rounded_number_stays(number: float, format: FloatFormat, saturate: bool) -> None:
    once = rounded(number, format, saturate=saturate)
    twice = rounded(once, format, saturate=saturate)
    assert twice == once or (math.isnan(once) and math.isnan(twice))


@given(doubles, doubles, formats, st.booleans())
def test_order_is_kept(one: float, other: float, format: FloatFormat, saturate: bool) -> None:
    low, high = sorted([one, other])
    low, high = (rounded(number, format, saturate=saturate) for number in (low, high))
    assert low <= high or math.isnan(low) or math.isnan(high)


@given(doubles, formats, st.booleans())
def test_the_sign_does_not_matter(number: float, format: FloatFormat, saturate: bool) -> None:
    x = torch.tensor([number, -number], dtype=torch.float64)
    one, other = encode(x, format, saturate).tolist()
    assert abs(one - other) == 1 << (format.bits - 1)


@given(doubles, formats)
def test_saturating_differs_only_where_the_result_is_not_finite(
    number: float, format: FloatFormat
) -> None:
    free, saturated = rounded(number, format), rounded(number, format, saturate=True)
    expected = free if math.isfinite(free) else math.copysign(format.max, number)
    assert saturated == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_overflow_is_infinity_or_nan_or_the_largest(format: FloatFormat, sign: int) -> None:
    for number in (1e39, 1e300, math.inf):
        overflow = rounded(sign * number, format)
        assert overflow == sign * math.inf if format.has_infinity else math.isnan(overflow)
        assert rounded(sign * number, format, saturate=True) == sign * format.max


@pytest.mark.parametrize(
    ("number", "format", "result"),
    [
        (464, E4M3, 448),  # as near to 448 as to the 480 that is not there: the even one
        (464.0001, E4M3, math.nan),
        (61439, E5M2, 57344),
        (61440, E5M2, math.inf),
        (65519, FP16, 65504),
        (65520, FP16, math.inf),
    ],
)
def test_where_overflow_begins(number: float, format: FloatFormat, result: float) -> None:
    assert rounded(number, format) == pytest.approx(result, rel=0, nan_ok=True)


def test_nan_is_never_saturated(format: FloatFormat) -> None:
    assert math.isnan(rounded(math.nan, format, saturate=True))


def test_float64_is_rounded_once() -> None:
    # By way of float32 this would land on the tie and then on the even neighbour, 1.
    number = 1 + 2**-11 + 2**-40
    assert torch.tensor(number, dtype=torch.float32).item() == 1 + 2**-11
    assert rounded(number, FP16) == 1 + 2**-10


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
    ],
    ids=str,
)
def test_every_dtype_is_rounded_from_its_exact_values(
    format: FloatFormat, dtype: torch.dtype, device: str
) -> None:
    patterns = torch.randint(0, 256, (4096,), generator=torch.Generator().manual_seed(1))
    x = patterns.to(torch.uint8).view(dtype)
    expected = encode(x.double(), format)
    result = encode(x.to(device), format)
    assert result.device.type == device
    assert torch.equal(result.cpu(), expected)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_shapes_are_kept(format: FloatFormat, shape: tuple[int, ...], device: str) -> None:
    x = torch.full(shape, 0.75, device=device)
    bits, values = encode(x, format), round_to(x, format)
    assert bits.shape == values.shape == shape
    assert (bits.dtype, values.dtype) == (torch.int64, torch.float32)
    assert torch.equal(values, x)


def test_the_layout_in_memory_does_not_matter(format: FloatFormat) -> None:
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for view in (x.T, x[::2, ::3], x[:1].expand(5, 8)):
        assert torch.equal(round_to(view, format), round_to(view.contiguous(), format))


def test_the_input_is_left_alone(format: FloatFormat) -> None:
    x = torch.tensor([0.1, -1e9, math.inf], dtype=torch.float64, requires_grad=True)
    before = x.detach().clone()
    assert not round_to(x, format).requires_grad
    assert torch.equal(x.detach(), before)


def special_doubles() -> Tensor:
    """Random patterns of float64 at exponents that matter, with the special ones."""
    generator = torch.Generator().manual_seed(1)
    exponents = torch.randint(1023 - 160, 1023 + 140, (100_000,), generator=generator)
    fractions = torch.randint(0, 1 << 52, (100_000,), generator=generator)
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, -math.nan, 464.0, 65520.0])
    x = ((exponents << 52) | fractions).view(torch.float64)
    return torch.cat([x, -x, special.double()])


@pytest.mark.gpu
@pytest.mark.parametrize("saturate", [False, True])
def test_cuda_gives_the_bits_of_the_cpu(format: FloatFormat, saturate: bool) -> None:
    x = special_doubles()
    bits = encode(x, format, saturate)
    assert torch.equal(encode(x.cuda(), format, saturate).cpu(), bits)
    values = decode(bits.cuda(), format).cpu()
    torch.testing.assert_close(values, decode(bits, format), rtol=0, atol=0, equal_nan=True)
    number = ~values.isnan()
    assert torch.equal(values[number].signbit(), decode(bits, format)[number].signbit())


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_only_floating_point_is_rounded(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"floating-point tensors are rounded, not {dtype}"):
        round_to(torch.ones(2, dtype=dtype), FP32)


def test_a_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="no float format fp12; did you mean fp"):
        round_to(torch.ones(2), "fp12")


def test_a_name_is_as_good_as_a_format(format: FloatFormat) -> None:
    x = torch.tensor([0.1, 1e9])
    assert torch.equal(encode(x, format.name), encode(x, format))
