import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.formats import INT8, UINT8, IntegerFormat
from bitladder.quantization import ACTIVATION, WEIGHT, Scheme

VALUES = st.floats(-1e6, 1e6, width=32)
SCHEMES = [Scheme(f, symmetric=s) for f in (INT8, UINT8) for s in (True, False)]


@given(a=VALUES, b=VALUES, scheme=st.sampled_from(SCHEMES))
def test_zero_is_on_the_grid_and_the_range_is_covered(a: float, b: float, scheme: Scheme) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    scale, zero_point = scheme.qparams(torch.tensor(min(a, b)), torch.tensor(max(a, b)))
    assert scale > 0
    assert scheme.format.minimum <= zero_point <= scheme.format.maximum
    smallest = scale * (scheme.format.minimum - zero_point)
    largest = scale * (scheme.format.maximum - zero_point)
    # Rounding the zero point shifts the grid by at most half a step.
    slack = 0.5001 * scale
    assert smallest <= low + slack
    assert largest >= high - slack


def test_the_scale_of_an_affine_grid_spends_all_codes_on_the_range() -> None:
    scale, zero_point = ACTIVATION.qparams(torch.tensor(-1.0), torch.tensor(1.55))
    assert scale.item() == pytest.approx(0.01)
    assert zero_point.item() == 100


def test_a_symmetric_grid_has_its_zero_in_the_middle() -> None:
    scale, zero_point = WEIGHT.qparams(torch.tensor([-2.0, 0.5]), torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(scale, torch.tensor([2.0, 4.0]) / 127.5)
    assert zero_point.tolist() == [0, 0]
    unsigned = Scheme(UINT8, symmetric=True)
    assert unsigned.qparams(torch.tensor(-1.0), torch.tensor(1.0))[1].item() == 128


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_range_of_only_zero_has_a_usable_scale(scheme: Scheme) -> None:
    scale, _ = scheme.qparams(torch.tensor(0.0), torch.tensor(0.0))
    assert scale > 0


def test_fewer_bits_make_a_coarser_grid() -> None:
    four = Scheme(IntegerFormat("int4", bits=4, signed=True), symmetric=True)
    assert four.qparams(torch.tensor(-7.5), torch.tensor(7.5))[0].item() == 1.0
