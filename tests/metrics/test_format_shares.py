import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bitladder.formats import E4M3, FLOAT_FORMATS, FP16, FloatFormat, round_to
from bitladder.metrics import Ruler, format_shares, part_of
from bitladder.metrics.format_shares import AT_ONCE, MOST_VALUES, count_by_bins, count_by_passes

FORMATS = list(FLOAT_FORMATS.values())
BITS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40)


def read(ruler: Ruler, *tensors: Tensor) -> dict[str, float]:
    first, *rest = ruler.count([part_of(x) for x in tensors])
    return ruler.read(sum(rest, start=first))


def brute_force(x: Tensor, format: FloatFormat, scale: float = 1.0) -> dict[str, float]:
    """Every value rounded, and looked at."""
    exact = x.double() / scale
    rounded = round_to(exact, format).double()
    stored = rounded.isfinite() & (rounded != 0)
    return {
        "underflow": ((exact != 0) & (rounded == 0)).double().mean().item(),
        "subnormal": (stored & (rounded.abs() < format.smallest_normal)).double().mean().item(),
        "saturated": (exact.isfinite() & ~rounded.isfinite()).double().mean().item(),
    }


def assert_right(figures: dict[str, float], x: Tensor, scale: float = 1.0) -> None:
    assert figures["zero"] == pytest.approx((x == 0).double().mean().item())
    assert figures["nonfinite"] == pytest.approx((~x.isfinite()).double().mean().item())
    for format in FORMATS:
        expected = brute_force(x, format, scale)
        found = {name: figures[f"{format.name}/{name}"] for name in expected}
        assert found == pytest.approx(expected, abs=1e-12), format.name


def around_limits(scale: float = 1.0) -> Tensor:
    """Each limit of each format and its neighbours, float64."""
    limits = [
        value * scale
        for format in FORMATS
        for value in (
            format.smallest_subnormal / 2,
            format.smallest_subnormal,
            format.smallest_normal - format.smallest_subnormal / 2,
            format.smallest_normal,
            format.max,
            format.max * (1 + format.epsilon / 4),
            format.max * (1 + format.epsilon / 2),
            format.max + math.ldexp(format.epsilon, math.frexp(format.max)[1] - 2),
        )
    ]
    x = torch.tensor(limits, dtype=torch.float64)
    far = torch.tensor(math.inf, dtype=torch.float64)
    return torch.cat([x, torch.nextafter(x, far), torch.nextafter(x, -far)])


@given(BITS)
def test_any_float32_values_are_counted_as_rounding_each_would(bits: list[int]) -> None:
    x = torch.tensor(bits, dtype=torch.int64).to(torch.int32).view(torch.float32)
    assert_right(format_shares(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 65536.0, 2.0**-10, 1000.0])
def test_values_at_the_limits_are_counted_as_rounding_each_would(
    dtype: torch.dtype, scale: float
) -> None:
    for value in around_limits(scale).to(dtype):
        x = value.reshape(1)
        assert_right(read(Ruler(scale=scale), x), x, scale)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_pattern(dtype: torch.dtype) -> None:
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    assert_right(format_shares(x), x)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_8_bit_pattern(dtype: torch.dtype) -> None:
    x = torch.arange(256).to(torch.uint8).view(dtype)
    assert_right(format_shares(x), x.float())


def test_a_format_says_the_same_of_its_own_values_as_its_fields_do() -> None:
    x = torch.arange(2**15).to(torch.int16).view(torch.float16)
    figures = format_shares(x, [FP16])
    assert figures["zero"] == 1 / 2**15
    assert figures["fp16/subnormal"] == pytest.approx(1023 / 2**15)
    assert figures["nonfinite"] == pytest.approx(1024 / 2**15)
    assert figures["fp16/underflow"] == figures["fp16/saturated"] == 0.0


@given(
    seed=st.integers(0, 1000),
    spread=st.floats(-44, 38),
    zeros=st.booleans(),
    bad=st.lists(st.sampled_from([math.inf, -math.inf, math.nan])),
)
def test_both_ways_of_counting_agree(
    seed: int, spread: float, zeros: bool, bad: list[float]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, generator=generator).abs() * 10.0**spread
    x = torch.cat([x.relu() - x.min() if zeros else x, torch.tensor(bad).abs()])
    marks = torch.tensor([0.0, 2.0**-149, 1e-40, 1e-8, 1e-3, 1.0, 3e3, torch.finfo().max])
    parts = [x, x[:7], x[::3]]
    assert torch.equal(count_by_passes(parts, marks), count_by_bins(parts, marks))


def test_gradients_are_judged_as_stored_and_as_they_were_without_the_scale() -> None:
    x = torch.tensor([1.0, 2.0**-20, 448.0, -(2.0**-8)])
    figures = read(Ruler([FP16, E4M3], scale=2.0**10, stored=FP16), x)
    assert figures["amax"] == 448 / 1024
    assert (figures["underflow"], figures["subnormal"]) == (0.0, 0.25)
    assert (figures["fp16/underflow"], figures["fp16/subnormal"]) == (0.25, 0.25)
    assert (figures["e4m3/underflow"], figures["e4m3/subnormal"]) == (0.75, 0.0)


@pytest.mark.parametrize("parts", [[1, 5, 30], [MOST_VALUES, 1], [2] * (2 * AT_ONCE + 1)])
def test_tensors_add_up_to_one(parts: Sequence[int]) -> None:
    x = torch.randn(sum(parts), generator=torch.Generator().manual_seed(0)) * 1e-3
    x[::7] = 0.0
    x[1] = math.inf
    whole = read(Ruler(), *x.split(list(parts)))
    assert_right(whole, x)
    assert whole["amax"] == pytest.approx(x[x.isfinite()].abs().max().item())


@pytest.mark.parametrize("shape", [(3, 2**19), (2**19, 6), (1000, 1024), (1048583,)])
def test_a_large_tensors_shares_are_estimated_and_its_amax_is_exact(shape: Sequence[int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    columns = torch.arange(shape[-1])
    x = x * torch.where(columns % 2 == 0, 1.0, 2.0**-30)  # what a step of two would not see
    x.view(-1)[12345] = -1e30
    assert x.numel() > MOST_VALUES
    assert MOST_VALUES / 2 < len(part_of(x).magnitudes) <= MOST_VALUES
    figures = format_shares(x)
    assert figures["amax"] == pytest.approx(1e30)
    lost = (round_to(x, "fp16") == 0).double().mean().item()
    assert lost > 0.4
    assert figures["fp16/underflow"] == pytest.approx(lost, abs=0.01)


@pytest.mark.parametrize("bad", [[], [math.nan], [-math.inf], [math.nan, math.inf]])
def test_amax_is_the_greatest_finite_magnitude(bad: list[float]) -> None:
    figures = format_shares(torch.tensor([0.5, -3.0, *bad]))
    assert figures["amax"] == 3.0
    assert figures["nonfinite"] == pytest.approx(len(bad) / (2 + len(bad)))


def test_any_layout_is_counted_and_left_as_it_was() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    before = x.clone()
    assert format_shares(x) == format_shares(x.contiguous().flatten())
    assert format_shares(torch.eye(3).to_sparse())["zero"] == pytest.approx(6 / 9)
    assert torch.equal(x, before)


@pytest.mark.gpu
def test_a_gpu_counts_what_the_cpu_does() -> None:
    scales = torch.logspace(-44, 38, 2000)
    x = torch.randn(500, 2000, generator=torch.Generator().manual_seed(0)) * scales
    x[0], x[1, ::3], x[2, ::5] = 0.0, math.nan, math.inf
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        assert format_shares(x.to(dtype).cuda()) == format_shares(x.to(dtype))
    limits = around_limits().float()
    assert format_shares(limits.cuda()) == format_shares(limits)
