import math

import pytest
import torch

from bitladder.formats import BF16, E4M3, E5M2, FP16, FP32, TF32, FloatFormat, Kind, decode, fields


def kinds(patterns: list[int], format: FloatFormat) -> list[Kind]:
    return [Kind(kind) for kind in fields(torch.tensor(patterns), format).kind.tolist()]


def test_the_fields_of_a_number() -> None:
    sign, exponent, fraction, kind = fields(torch.tensor([0xC248]), FP16)  # -3.140625
    assert (sign.item(), exponent.item(), fraction.item()) == (1, 16, 0b1001001000)
    assert kind.item() == Kind.NORMAL
    assert kind.dtype == torch.uint8


@pytest.mark.parametrize(
    ("format", "patterns"),
    [
        (FP32, [0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FFFFFFF]),
        (TF32, [0, 1, 0x3FF, 0x400, 0x3FBFF, 0x3FC00, 0x3FC01, 0x3FFFF]),
        (FP16, [0, 1, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0x7C01, 0x7FFF]),
        (BF16, [0, 1, 0x7F, 0x80, 0x7F7F, 0x7F80, 0x7F81, 0x7FFF]),
        (E5M2, [0, 1, 0x03, 0x04, 0x7B, 0x7C, 0x7D, 0x7F]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_kinds_change_where_they_should(format: FloatFormat, patterns: list[int]) -> None:
    zero, least, last_subnormal, normal, largest, infinity, nan, last = patterns
    for sign in (0, 1 << (format.bits - 1)):
        assert kinds([sign | zero], format) == [Kind.ZERO]
        assert kinds([sign | least, sign | last_subnormal], format) == [Kind.SUBNORMAL] * 2
        assert kinds([sign | normal, sign | largest], format) == [Kind.NORMAL] * 2
        assert kinds([sign | infinity], format) == [Kind.INFINITY]
        assert kinds([sign | nan, sign | last], format) == [Kind.NAN] * 2
    assert decode(torch.tensor(largest), format).item() == format.max
    assert decode(torch.tensor(normal), format).item() == format.smallest_normal
    assert decode(torch.tensor(least), format).item() == format.smallest_subnormal


def test_e4m3_has_numbers_where_others_have_infinities() -> None:
    assert kinds([0x78, 0x7E, 0xFE], E4M3) == [Kind.NORMAL] * 3
    assert kinds([0x7F, 0xFF], E4M3) == [Kind.NAN] * 2
    assert decode(torch.tensor([0x78, 0x7E, 0xFE]), E4M3).tolist() == [256, 448, -448]


def test_the_sign_of_zero_is_kept(format: FloatFormat, device: str) -> None:
    zeros = decode(torch.tensor([0, 1 << (format.bits - 1)], device=device), format)
    assert zeros.tolist() == [0, 0]
    assert zeros.signbit().tolist() == [False, True]


def test_what_torch_stores_can_be_viewed_and_decoded(device: str) -> None:
    x = torch.tensor([[1.5, -0.25], [-math.inf, 6e-8]], dtype=torch.float16, device=device)
    for dtype in (torch.int16, torch.uint16):
        assert torch.equal(decode(x.view(dtype), "fp16"), x.float())
    y = x.to(torch.bfloat16)
    assert torch.equal(decode(y.view(torch.int16), "bf16"), y.float())
    z = x.float()
    assert torch.equal(decode(z.view(torch.int32), "fp32"), z)
    w = x.to(torch.float8_e5m2)
    for dtype in (torch.int8, torch.uint8):
        assert torch.equal(decode(w.view(dtype), "e5m2"), w.float())


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_shapes_are_kept(format: FloatFormat, shape: tuple[int, ...]) -> None:
    bits = torch.ones(shape, dtype=torch.int32)
    assert decode(bits, format).shape == shape
    assert all(part.shape == shape for part in fields(bits, format))


@pytest.mark.parametrize("pattern", [-1, 256, 0x7E00])
def test_a_pattern_of_another_width_is_refused(pattern: int) -> None:
    with pytest.raises(ValueError, match="a pattern is outside 0 to 0xff: e4m3 has 8 bits"):
        decode(torch.tensor([0, pattern]), "e4m3")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_only_integers_are_patterns(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"bit patterns are integers, not {dtype}"):
        decode(torch.ones(2, dtype=dtype), "fp16")
