"""The floor that a run must not fall below."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.sweeps.floor import floor_of

CURVES = [[0.1, 0.5, 0.4], [0.2, 0.3, 0.9], [0.3, 0.1, 0.2], [0.0, 0.8]]


def test_it_is_the_middle_of_the_best_scores_so_far() -> None:
    # Best so far: .1 .5 .5 | .2 .3 .9 | .3 .3 .3 | .0 .8
    floor = floor_of(CURVES, mode="max", share=0.5, least_runs=3)
    assert floor == [0.2, 0.5, 0.5]


def test_a_loss_is_judged_the_other_way() -> None:
    negative = [[-x for x in curve] for curve in CURVES]
    floor = floor_of(negative, mode="min", share=0.5, least_runs=3)
    assert floor == [-0.2, -0.5, -0.5]


def test_too_few_runs_make_none() -> None:
    assert floor_of(CURVES, mode="max", share=0.5, least_runs=5) == []
    assert floor_of([], mode="max", share=0.5, least_runs=0) == []
    assert len(floor_of(CURVES, mode="max", share=0.5, least_runs=4)) == 2


def test_nan_is_worse_than_any_score() -> None:
    assert floor_of([[math.nan, 0.5]], mode="max", share=0.0, least_runs=1) == [-math.inf, 0.5]


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=9),
    st.floats(0, 1),
)
def test_it_never_falls_and_a_larger_share_is_never_more_patient(
    curves: list[list[float]], share: float
) -> None:
    floor = floor_of(curves, mode="max", share=share, least_runs=1)
    assert floor == sorted(floor)
    patient = floor_of(curves, mode="max", share=share / 2, least_runs=1)
    assert all(x <= y for x, y in zip(patient, floor, strict=True))
    best = max(max(curve) for curve in curves)
    assert floor[-1] <= best == pytest.approx(best)
