import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.report.figures.curves import MOST_POINTS, curves, quantity, thinned
from bitladder.runs import Series

FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=32)


def series(*values: float) -> Series:
    return Series(list(range(len(values))), list(values))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("train/loss_step", "loss"),
        ("train/loss_epoch", "loss"),
        ("val/loss", "loss"),
        ("float/val/accuracy", "accuracy"),
        ("lr-AdamW/pg1", "lr (learning rate)"),
        ("x", "x"),
    ],
)
def test_keys_that_measure_the_same_share_a_figure(key: str, name: str) -> None:
    assert quantity(key) == name


def test_short_series_are_drawn_whole() -> None:
    steps, values = thinned(series(3.0, 1.0, 2.0))
    assert (steps.tolist(), values.tolist()) == ([0, 1, 2], [3.0, 1.0, 2.0])


def test_ten_thousand_steps_become_few_points_and_no_spike_is_lost() -> None:
    values = np.sin(np.arange(10_000) / 50)
    values[[1234, 7777]] = [100.0, -100.0]
    steps, kept = thinned(series(*values))
    assert len(kept) <= MOST_POINTS
    assert {1234, 7777} <= set(steps)
    assert (kept.max(), kept.min()) == (100.0, -100.0)
    assert (np.diff(steps) > 0).all()


@given(st.lists(FLOATS, min_size=1, max_size=100), st.integers(2, 20))
def test_thinning_keeps_the_extremes_of_what_is_finite(values: list[float], most: int) -> None:
    finite = [value for value in values if math.isfinite(value)]
    steps, kept = thinned(series(*values), most)
    assert len(kept) <= max(most, 2)
    assert len(steps) == len(kept)
    if finite:
        assert np.nanmax(kept) == max(finite)
        assert np.nanmin(kept) == min(finite)
    else:
        assert np.isnan(kept).all()


def test_values_that_are_no_numbers_are_gaps_and_counted() -> None:
    figure = curves("loss", {"<b>x</b>": series(1.0, math.nan, math.inf, 2.0)})
    trace: Any = figure.data[0]
    assert trace.name == "&lt;b&gt;x&lt;/b&gt;"
    assert np.isnan(trace.y).tolist() == [False, True, True, False]
    assert figure.layout.title.text == "loss (2 values are NaN or infinite: gaps)"
