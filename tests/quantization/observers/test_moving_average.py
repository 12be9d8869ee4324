import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.errors import UserError
from bitladder.quantization import ACTIVATION, MovingAverageObserver

BATCHES = st.lists(
    st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=8), min_size=1, max_size=6
)


@given(batches=BATCHES, constant=st.floats(0.01, 1.0))
def test_the_range_is_the_average_of_the_batches_ranges(
    batches: list[list[float]], constant: float
) -> None:
    observer = MovingAverageObserver(ACTIVATION, constant)
    for batch in batches:
        observer(torch.tensor(batch))
    low, high = min(batches[0]), max(batches[0])
    for batch in batches[1:]:
        low = (1 - constant) * low + constant * min(batch)
        high = (1 - constant) * high + constant * max(batch)
    np.testing.assert_allclose(torch.stack(observer.range()), [low, high], rtol=1e-4, atol=1e-3)


def test_one_odd_batch_hardly_moves_the_range() -> None:
    observer = MovingAverageObserver(ACTIVATION)
    for _ in range(10):
        observer(torch.tensor([-1.0, 1.0]))
    observer(torch.tensor([-100.0, 100.0]))
    assert observer.range()[1].item() == pytest.approx(1.99)


@pytest.mark.parametrize("constant", [0.0, -0.1, 1.1])
def test_a_constant_that_averages_nothing_is_refused(constant: float) -> None:
    with pytest.raises(UserError, match=r"averaging_constant must be in \(0, 1\]"):
        MovingAverageObserver(ACTIVATION, constant)
