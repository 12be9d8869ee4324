import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.error_sets import ErrorSets

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def count(wrong: list[tuple[bool, bool]]) -> ErrorSets:
    both = sum(a and b for a, b in wrong)
    return ErrorSets(len(wrong), sum(a for a, _ in wrong), sum(b for _, b in wrong), both)


def test_an_overlap_between_chance_and_the_most_that_the_rates_allow() -> None:
    sets = ErrorSets(samples=100, wrong_a=10, wrong_b=20, wrong_both=5)
    assert sets.jaccard == pytest.approx(5 / 25)
    assert sets.expected == pytest.approx(0.02 / 0.28)
    assert sets.highest == pytest.approx(0.5)
    assert sets.excess == pytest.approx((5 / 25 - 0.02 / 0.28) / (0.5 - 0.02 / 0.28))


@given(ANSWERS)
def test_everything_lies_where_it_must(wrong: list[tuple[bool, bool]]) -> None:
    sets = count(wrong)
    if not sets.wrong_a and not sets.wrong_b:
        assert math.isnan(sets.jaccard)
        return
    assert 0.0 <= sets.jaccard <= sets.highest <= 1.0
    assert 0.0 <= sets.expected <= sets.highest + 1e-12
    if not math.isnan(sets.excess):
        assert sets.excess <= 1.0 + 1e-12


@given(ANSWERS)
def test_neither_comes_first(wrong: list[tuple[bool, bool]]) -> None:
    one, other = count(wrong), count([(b, a) for a, b in wrong])
    for name in ("jaccard", "expected", "highest", "excess"):
        x, y = getattr(one, name), getattr(other, name)
        assert x == y or (math.isnan(x) and math.isnan(y))


@pytest.mark.parametrize(
    ("sets", "excess"),
    [
        (ErrorSets(100, 10, 10, 10), 1.0),  # the same set
        (ErrorSets(100, 2, 20, 2), 1.0),  # one inside the other: no more is possible
        (ErrorSets(100, 10, 20, 2), 0.0),  # 100 * 0.1 * 0.2: as by chance
    ],
)
def test_excess_is_zero_by_chance_and_one_at_the_most(sets: ErrorSets, excess: float) -> None:
    assert sets.excess == pytest.approx(excess, abs=1e-12)


def test_errors_that_avoid_each_other_are_below_chance() -> None:
    assert ErrorSets(100, 40, 40, 0).excess < -0.2


@pytest.mark.parametrize(
    ("sets", "jaccard"),
    [
        (ErrorSets(0, 0, 0, 0), math.nan),
        (ErrorSets(10, 0, 0, 0), math.nan),  # no error anywhere: no overlap, neither 0 nor 1
        (ErrorSets(10, 0, 3, 0), 0.0),
        (ErrorSets(10, 10, 3, 3), 0.3),  # one always wrong shares every error of the other
    ],
)
def test_where_the_rates_leave_no_room_there_is_no_excess(sets: ErrorSets, jaccard: float) -> None:
    assert sets.jaccard == pytest.approx(jaccard, nan_ok=True)
    assert math.isnan(sets.excess)


def test_deviations_from_chance_are_those_of_sets_drawn_at_random() -> None:
    n, a, b = 7, 3, 4
    fixed = set(range(a))
    shared = [len(fixed & set(other)) for other in itertools.combinations(range(n), b)]
    mean, sd = statistics.mean(shared), statistics.pstdev(shared)
    for both in set(shared):
        assert ErrorSets(n, a, b, both).deviations == pytest.approx((both - mean) / sd)


def test_without_room_there_are_no_deviations() -> None:
    for sets in (ErrorSets(0, 0, 0, 0), ErrorSets(1, 1, 1, 1), ErrorSets(9, 0, 3, 0)):
        assert math.isnan(sets.deviations)
