import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitladder.quantization import (
    ACTIVATION,
    WEIGHT,
    MinMaxObserver,
    MSEObserver,
    Observer,
    Scheme,
)
from bitladder.quantization.fake_quantize import fake_quantize
from bitladder.quantization.observers.binned import squared_error

ROUNDING = 1 + 1e-5  # of fp32 between two ways to divide by a scale


def loss(observer: Observer, x: Tensor) -> Tensor:
    """Squared errors of ``x``, summed over all of it or over each channel."""
    rounded = fake_quantize(x, *observer.scheme.qparams(*observer.range()), observer.scheme)
    error = (rounded - x).double().square()
    return error.sum() if observer.scheme.channel_axis is None else error.flatten(1).sum(1)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    outlier=st.floats(1.0, 200.0),
    kind=st.sampled_from(["normal", "relu", "skewed", "shifted"]),
)
def test_it_loses_no_more_than_min_max_does(seed: int, outlier: float, kind: str) -> None:
    x = torch.randn(4000, generator=torch.Generator().manual_seed(seed))
    x[0] = outlier
    x = {"normal": x, "relu": x.relu(), "skewed": x.exp().clamp(max=300), "shifted": x + 50}[kind]
    mse, minmax = MSEObserver(ACTIVATION), MinMaxObserver(ACTIVATION)
    for batch in x.split(1000):
        mse(batch)
        minmax(batch)
    assert loss(mse, x) <= loss(minmax, x) * ROUNDING


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.lists(st.floats(-1e4, 1e4, width=32), min_size=6, max_size=6), min_size=1, max_size=4
    )
)
def test_no_channel_of_a_weight_loses_more_than_with_min_max(rows: list[list[float]]) -> None:
    weight = torch.tensor(rows)
    mse, minmax = MSEObserver(WEIGHT), MinMaxObserver(WEIGHT)
    mse(weight)
    minmax(weight)
    # An error of nothing but rounding in fp32 is none.
    noise = 1e-12 * weight.double().square().sum(1)
    assert (loss(mse, weight) <= loss(minmax, weight) * ROUNDING + noise).all()


@pytest.mark.parametrize("scheme", [ACTIVATION, WEIGHT])
def test_an_outlier_is_clipped_where_that_pays(scheme: Scheme) -> None:
    x = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(0))
    x[0, 0] = 60.0
    mse, minmax = MSEObserver(scheme), MinMaxObserver(scheme)
    for observer in (mse, minmax):
        observer(x)
    assert mse.range()[1].item() < 55.0
    assert mse.range()[0].item() == x.min()
    assert (loss(mse, x) < 0.95 * loss(minmax, x)).all()


def test_an_error_that_clipping_cannot_lessen_keeps_the_widest_range() -> None:
    x = torch.arange(-128.0, 128.0)  # every value has a code of its own
    observer = MSEObserver(ACTIVATION)
    observer(x)
    assert observer.range() == (-128.0, 127.0)


def test_it_finds_what_a_search_by_hand_finds() -> None:
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(1)) ** 3
    observer = MSEObserver(WEIGHT)
    observer(weight)
    found = loss(observer, weight)
    ones = torch.ones_like(weight)
    for ratio in torch.arange(0.01, 1.0, 0.01):
        threshold = weight.abs().amax(1) * ratio
        other = squared_error(WEIGHT, -threshold, threshold, weight, ones)
        assert (found <= other * 1.031).all()
