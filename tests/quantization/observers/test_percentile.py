import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitladder.errors import UserError
from bitladder.quantization import ACTIVATION, WEIGHT, MinMaxObserver, PercentileObserver, Scheme

BATCHES = st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8), min_size=1, max_size=6
)


@given(batches=BATCHES)
@settings(max_examples=50)
def test_all_of_the_values_is_min_max(batches: list[list[float]]) -> None:
    everything, widest = PercentileObserver(ACTIVATION, 100.0), MinMaxObserver(ACTIVATION)
    for batch in batches:
        everything(torch.tensor(batch))
        widest(torch.tensor(batch))
    assert everything.range() == widest.range()


@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=60),
    percentile=st.floats(50.1, 100.0),
)
@settings(max_examples=50)
def test_no_more_than_the_rest_is_clipped_at_each_end(
    values: list[float], percentile: float
) -> None:
    x = torch.tensor(values)
    for scheme, shaped in ((ACTIVATION, x), (WEIGHT, x[None])):
        observer = PercentileObserver(scheme, percentile)
        observer(shaped)
        minimum, maximum = observer.range()
        allowed = (1 - percentile / 100) * len(values) + 1e-9
        assert (x > maximum).sum() <= allowed
        assert (x < minimum).sum() <= allowed


def test_what_is_beyond_the_percentile_is_clipped() -> None:
    x = torch.arange(1000.0) - 300
    for scheme, shaped in ((ACTIVATION, x), (WEIGHT, x[None])):
        observer = PercentileObserver(scheme, 99.0)
        for batch in shaped.split(100, 0):
            observer(batch)
        assert observer.range() == (-290.0, 689.0)


@pytest.mark.parametrize("scheme", [ACTIVATION, WEIGHT])
def test_an_outlier_costs_nothing_however_large_and_late(scheme: Scheme) -> None:
    x = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    x[0, 15_000] = 1e6
    observer = PercentileObserver(scheme)
    for batch in x.split(20_000 if scheme.channel_axis == 0 else 5000, dim=1):
        observer(batch)
    assert 3.0 < observer.range()[1].item() < 5.0


@pytest.mark.parametrize("percentile", [50.0, 0.999, -1.0, 100.1, float("nan")])
def test_a_percentile_that_is_none_is_refused(percentile: float) -> None:
    with pytest.raises(UserError, match=r"percentile must be in \(50, 100\], not"):
        PercentileObserver(ACTIVATION, percentile)
