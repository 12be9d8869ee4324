import pytest
import torch

from bitladder.errors import UserError
from bitladder.formats import (
    BF16,
    E4M3,
    E5M2,
    FLOAT_FORMATS,
    FP16,
    FP32,
    TF32,
    FloatFormat,
    get_format,
)


def test_the_ladder_goes_down_in_bits() -> None:
    widths = {name: format.bits for name, format in FLOAT_FORMATS.items()}
    assert widths == {"fp32": 32, "tf32": 19, "fp16": 16, "bf16": 16, "e4m3": 8, "e5m2": 8}
    assert list(widths.values()) == sorted(widths.values(), reverse=True)


@pytest.mark.parametrize("format", [FP32, FP16, BF16, E4M3, E5M2], ids=lambda format: format.name)
def test_limits_are_those_of_torch(format: FloatFormat) -> None:
    torch_says = torch.finfo(format.dtype)
    assert format.bits == torch_says.bits
    assert format.max == torch_says.max
    assert format.epsilon == torch_says.eps
    assert format.smallest_normal == torch_says.smallest_normal


def test_limits_of_tf32() -> None:
    assert TF32.max == pytest.approx(3.4011621e38, rel=1e-7)
    assert TF32.epsilon == 2**-10
    assert TF32.smallest_normal == FP32.smallest_normal
    assert TF32.smallest_subnormal == 2**-136


@pytest.mark.parametrize(
    ("format", "smallest"),
    [(FP32, 2**-149), (FP16, 2**-24), (BF16, 2**-133), (E4M3, 2**-9), (E5M2, 2**-16)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_smallest_subnormals(format: FloatFormat, smallest: float) -> None:
    assert format.smallest_subnormal == smallest


@pytest.mark.parametrize("format", [FP32, FP16, BF16, E4M3, E5M2], ids=lambda format: format.name)
def test_patterns_are_what_torch_reads(format: FloatFormat) -> None:
    integer = {8: torch.uint8, 16: torch.int16, 32: torch.int32}[format.bits]
    patterns = torch.tensor([format.max_pattern, format.max_pattern + 1, format.nan_pattern])
    largest, above, nan = patterns.to(integer).view(format.dtype).double().tolist()
    assert largest == format.max
    assert (above == float("inf")) == format.has_infinity
    assert nan != nan


def test_a_format_is_found_by_its_name(format: FloatFormat) -> None:
    assert get_format(format.name) is format


def test_a_format_may_stand_for_its_name(format: FloatFormat) -> None:
    assert get_format(format) is format


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    expected = (
        r"there is no float format e4m3fn; did you mean e4m3\? "
        r"\(fp32, tf32, fp16, bf16, e4m3, e5m2\)"
    )
    with pytest.raises(UserError, match=expected):
        get_format("e4m3fn")


def test_a_name_like_nothing_gets_the_list() -> None:
    with pytest.raises(UserError, match=r"no float format quantization \(fp32"):
        get_format("quantization")
