import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitladder.quantization import ACTIVATION, HistogramObserver, MinMaxObserver, Observer
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
