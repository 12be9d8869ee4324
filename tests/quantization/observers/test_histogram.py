import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitladder.quantization import ACTIVATION, WEIGHT, HistogramObserver, MinMaxObserver, Observer
from bitladder.quantization.fake_quantize import fake_quantize


def squared_error(observer: Observer, x: Tensor) -> float:
    rounded = fake_quantize(x, *ACTIVATION.qparams(*observer.range()), ACTIVATION)
    return (rounded - x).double().square().sum().item()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    outlier=st.floats(1.0, 200.0),
    kind=st.sampled_from(["normal", "relu", "skewed", "shifted"]),
)
def test_it_loses_no_more_than_min_max_does(seed: int, outlier: float, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4000, generator=generator)
    x[0] = outlier
    x = {"normal": x, "relu": x.relu(), "skewed": x.exp().clamp(max=300), "shifted": x + 50}[kind]
    histogram, minmax = HistogramObserver(ACTIVATION), MinMaxObserver(ACTIVATION)
    for batch in x.split(1000):
        histogram(batch)
        minmax(batch)
    assert squared_error(histogram, x) <= 1.02 * squared_error(minmax, x)


def test_an_outlier_is_clipped_where_that_pays() -> None:
    torch.manual_seed(0)
    x = torch.randn(100_000)
    x[0] = 60.0
    histogram, minmax = HistogramObserver(ACTIVATION), MinMaxObserver(ACTIVATION)
    for observer in (histogram, minmax):
        observer(x)
    assert histogram.range()[1] < 55.0
    assert squared_error(histogram, x) < 0.95 * squared_error(minmax, x)


@given(values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30))
@settings(max_examples=40)
def test_the_range_lies_inside_what_was_seen(values: list[float]) -> None:
    observer = HistogramObserver(ACTIVATION)
    for value in values:
        observer(torch.tensor([value]))
    minimum, maximum = observer.range()
    low, high = min(values), max(values)
    assert min(low, 0.0) <= minimum <= maximum <= max(high, 0.0)


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6), seed=st.integers(0, 100))
@settings(max_examples=25)
def test_widening_loses_no_counts(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    observer = HistogramObserver(ACTIVATION, bins=64)
    for power, size in enumerate(sizes):
        observer(torch.randn(size, generator=generator) * 2**power)
    assert observer.counts.sum() == sum(sizes)


def test_a_single_value_is_its_own_range() -> None:
    observer = HistogramObserver(ACTIVATION)
    for _ in range(3):
        observer(torch.full((5,), 3.0))
    assert observer.range() == (3.0, 3.0)


def test_it_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="one range for a tensor, not one a channel"):
        HistogramObserver(WEIGHT)
    with pytest.raises(ValueError, match="bins must be at least 16, not 8"):
        HistogramObserver(ACTIVATION, bins=8)
