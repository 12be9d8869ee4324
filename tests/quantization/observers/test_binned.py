import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitladder.errors import UserError
from bitladder.quantization import (
    ACTIVATION,
    WEIGHT,
    EntropyObserver,
    HistogramObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
)
from bitladder.quantization.observers.binned import BinnedObserver

BINNED = [EntropyObserver, HistogramObserver, MSEObserver, PercentileObserver]


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6), seed=st.integers(0, 100))
@settings(max_examples=25)
def test_widening_loses_nothing(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    observer = HistogramObserver(ACTIVATION, bins=64)
    seen = torch.empty(0)
    for power, size in enumerate(sizes):
        x = torch.randn(size, generator=generator) * 2**power
        seen = torch.cat([seen, x])
        observer(x)
        assert observer.counts.sum() == seen.numel()
        filled = observer.counts > 0
        ends = torch.cat([observer.least[filled], observer.greatest[filled]])
        assert torch.isin(ends, seen).all()
        inside = (seen[:, None] >= observer.least) & (seen[:, None] <= observer.greatest)
        assert inside.any(1).all()


def test_the_order_of_batches_in_one_range_does_not_matter() -> None:
    x = torch.randn(900, generator=torch.Generator().manual_seed(0))
    ends = torch.stack([x.min(), x.max()])
    one, other = HistogramObserver(ACTIVATION), HistogramObserver(ACTIVATION)
    for observer, batches in ((one, x.split(300)), (other, x.flip(0).split(100))):
        observer(ends)
        for batch in batches:
            observer(batch)
    assert str(one.state()) == str(other.state())
    assert all(torch.equal(other.state()[name], value) for name, value in one.state().items())


@pytest.mark.parametrize("observer", BINNED)
def test_counting_goes_on_where_fp32_would_stop(observer: type[BinnedObserver]) -> None:
    counting = observer(ACTIVATION)
    counting(torch.tensor([-1.0, 0.0, 1.0]))
    counting.counts *= 2**24
    counting(torch.zeros(3))
    assert counting.counts.sum() == 3 * 2**24 + 3


@pytest.mark.parametrize("observer", BINNED)
def test_forgetting_forgets_the_bins_too(observer: type[BinnedObserver]) -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    fresh, used = observer(ACTIVATION), observer(ACTIVATION)
    used(x * 50)
    used.unseen()
    assert not used.saw_data
    for each in (fresh, used):
        each(x)
    assert all(torch.equal(used.state()[name], value) for name, value in fresh.state().items())


def test_a_weights_state_has_no_bins() -> None:
    observer: Observer = MSEObserver(WEIGHT)
    observer(torch.randn(4, 1000))
    assert sum(buffer.numel() for buffer in observer.state().values()) == 8


@pytest.mark.parametrize("observer", BINNED)
def test_too_few_bins_are_refused(observer: type[BinnedObserver]) -> None:
    with pytest.raises(UserError, match="bins must be at least 16, not 8"):
        observer(ACTIVATION, bins=8)


@pytest.mark.parametrize("observer", [HistogramObserver, EntropyObserver])
def test_channels_are_refused_with_what_to_write(observer: type[BinnedObserver]) -> None:
    with pytest.raises(UserError, match="not one a channel: for weights write MinMaxObserver"):
        observer(WEIGHT)
