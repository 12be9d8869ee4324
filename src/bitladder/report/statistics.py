"""What a few seeds allow to be said."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean, stdev

from scipy.stats import t as student

LARGEST_EXACT = 16
"""Pairs up to which all changes of sign are tried: 65,536 of them."""

LEAST = 3
"""Pairs below which nothing is said of chance."""


@dataclass(frozen=True)
class Comparison:
    """How a recipe differs from a baseline on the same seeds.

    Attributes:
        pairs: How many seeds both have.
        difference: The mean of the differences; NaN without a pair.
        low: Lower end of its 95% interval by Student's t; NaN below three pairs.
        high: The upper end.
        p: Of the exact test by changes of sign, two-sided; NaN below three pairs.
    """

    pairs: int
    difference: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (of n - 1); NaN where there are too few values for it."""
    if not values:
        return math.nan, math.nan
    return mean(values), stdev(values) if len(values) > 1 else math.nan


def compare(before: dict[int, float], after: dict[int, float]) -> Comparison:
    """Compare what two recipes measured, seed by seed.

    The interval takes the differences for normal; the test takes nothing for granted but that
    each could have had the other sign (Fisher, "The Design of Experiments", 1935, section 21).

    Args:
        before: The baseline's, by seed.
        after: The recipe's, by seed.
    """
    differences = [after[seed] - before[seed] for seed in before if seed in after]
    if len(differences) < LEAST:
        return Comparison(len(differences), spread(differences)[0])
    centre, deviation = spread(differences)
    n = len(differences)
    reach = float(student.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Comparison(n, centre, centre - reach, centre + reach, sign_flips(differences))


def sign_flips(differences: Sequence[float]) -> float:
    """The share of all changes of sign whose mean is as far from zero as the one that was found.

    With n pairs it is never below ``2 ** (1 - n)``. Beyond 16 pairs the signs of the first 16
    are changed alone, which keeps the test valid, and costs it power.
    """
    changed, rest = differences[:LARGEST_EXACT], sum(differences[LARGEST_EXACT:])
    found = abs(sum(differences))
    # What differs by rounding alone is as far.
    least = found - 1e-12 * (1.0 + found)
    sums = [
        abs(rest + sum(s * x for s, x in zip(signs, changed, strict=True)))
        for signs in product((1, -1), repeat=len(changed))
    ]
    return sum(value >= least for value in sums) / len(sums)


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number; NaN stays NaN and does not count.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    """
    order = sorted((p, i) for i, p in enumerate(values) if not math.isnan(p))
    adjusted = list(values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = largest
    return adjusted
