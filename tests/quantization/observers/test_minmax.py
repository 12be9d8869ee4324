import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.quantization import ACTIVATION, MinMaxObserver

BATCHES = st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8), min_size=1, max_size=6
)


@given(batches=BATCHES)
def test_the_range_is_that_of_all_data_ever_seen(batches: list[list[float]]) -> None:
    observer = MinMaxObserver(ACTIVATION)
    for batch in batches:
        observer(torch.tensor(batch))
    seen = torch.tensor([value for batch in batches for value in batch])
    minimum, maximum = observer.range()
    assert minimum == seen.min()
    assert maximum == seen.max()


def test_the_range_carries_no_gradient() -> None:
    observer = MinMaxObserver(ACTIVATION)
    observer(torch.randn(4, requires_grad=True) * 2)
    assert not any(end.requires_grad for end in observer.range())
