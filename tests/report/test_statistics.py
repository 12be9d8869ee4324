"""What a few seeds allow to be said, against other programs and against brute force."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bitladder.report.statistics import compare, holm, sign_flips, spread

numbers = st.floats(-1, 1, allow_subnormal=False)


@given(st.lists(numbers, min_size=1, max_size=8))
def test_the_test_by_signs_is_scipys(differences: list[float]) -> None:
    flips = [
        sum(s * x for s, x in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    found = abs(sum(differences))
    expected = sum(abs(x) >= found - 1e-9 for x in flips) / len(flips)
    # Both count what differs by rounding alone as equal.
    assert sign_flips(differences) <= expected
    assert sign_flips(differences) >= 2.0 ** (1 - len(differences)) - 1e-12


def test_three_seeds_cannot_show_less_than_a_quarter() -> None:
    assert sign_flips([1.0, 2.0, 3.0]) == 0.25
    assert sign_flips([1.0] * 6) == 2 / 64
    assert sign_flips([1.0, -1.0, 1.0, -1.0]) == 1.0


def test_many_pairs_take_no_longer() -> None:
    assert 0.0 < sign_flips([0.1] * 40) <= 2.0**-14


def test_the_interval_is_students() -> None:
    before = dict.fromkeys(range(5), 0.9)
    after = {0: 0.91, 1: 0.89, 2: 0.93, 3: 0.92, 4: 0.90, 9: 0.1}
    result = compare(before, after)
    differences = [after[seed] - 0.9 for seed in range(5)]
    expected = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert result.pairs == 5
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert result.difference == pytest.approx(0.01)


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_below_three_pairs_nothing_is_said_of_chance(seeds: int) -> None:
    values = dict.fromkeys(range(seeds), 0.5)
    result = compare(values, dict.fromkeys(range(seeds), 0.75))
    assert math.isnan(result.p)
    assert math.isnan(result.low)
    assert result.difference == 0.25 if seeds else math.isnan(result.difference)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, math.nan, 0.9])[0] == 1.0
    assert math.isnan(holm([0.5, math.nan])[1])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_each_and_bonferroni(values: list[float]) -> None:
    adjusted = holm(values)
    for p, q in zip(values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(values)) or q == max(
            min(1.0, x * len(values)) for x in values if x <= p
        )
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_spread() -> None:
    assert spread([1.0, 3.0]) == (2.0, pytest.approx(math.sqrt(2)))
    assert spread([1.0])[0] == 1.0
    assert math.isnan(spread([1.0])[1])
    assert math.isnan(spread([])[0])
