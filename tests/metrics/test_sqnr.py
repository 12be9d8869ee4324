import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.metrics import SQNR


def test_is_the_ratio_of_energies_in_db() -> None:
    metric = SQNR()
    metric.update(torch.tensor([3.3, 4.4]), torch.tensor([3.0, 4.0]))
    assert metric.compute().item() == pytest.approx(20.0, abs=1e-5)


def test_is_infinite_when_nothing_was_lost_even_of_zeros() -> None:
    for x in (torch.randn(4, 3), torch.zeros(5)):
        metric = SQNR()
        metric.update(x, x.clone())
        assert metric.compute().item() == math.inf


def test_is_minus_infinite_when_there_was_no_signal() -> None:
    metric = SQNR()
    metric.update(torch.ones(3), torch.zeros(3))
    assert metric.compute().item() == -math.inf


def test_nan_is_not_hidden() -> None:
    metric = SQNR()
    metric.update(torch.tensor([math.nan, 1.0]), torch.ones(2))
    assert math.isnan(metric.compute().item())


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_batches_add_up_to_the_whole(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(sum(sizes), 3, generator=generator)
    x = reference + 0.1 * torch.randn(reference.shape, generator=generator)
    metric, whole = SQNR(), SQNR()
    for part, reference_part in zip(x.split(sizes), reference.split(sizes), strict=True):
        metric.update(part, reference_part)
    whole.update(x, reference)
    torch.testing.assert_close(metric.compute(), whole.compute())


def test_large_half_precision_values_do_not_overflow() -> None:
    reference = torch.full((1000,), 60000.0, dtype=torch.float16)
    metric = SQNR()
    metric.update(reference * 0.5, reference)
    assert metric.compute().item() == pytest.approx(20 * math.log10(2), abs=1e-6)


def test_reset_forgets() -> None:
    metric = SQNR()
    metric.update(torch.zeros(2), torch.ones(2))
    metric.reset()
    metric.update(torch.ones(2), torch.ones(2))
    assert metric.compute().item() == math.inf


def test_other_shapes_are_refused_even_if_they_broadcast() -> None:
    with pytest.raises(ValueError, match=r"x has shape \(1,\), reference \(3,\)"):
        SQNR().update(torch.ones(1), torch.ones(3))
