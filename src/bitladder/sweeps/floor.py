"""How good a run must be, validation by validation, not to be given up."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal


def floor_of(
    curves: Sequence[Sequence[float]],
    *,
    mode: Literal["min", "max"],
    share: float,
    least_runs: int,
) -> list[float]:
    """The score that a share of the finished runs had not reached yet, at every validation.

    Args:
        curves: A finished run's scores each, in order; NaN where a validation had none.
        mode: ``max`` if a greater score is better.
        share: Which share of the runs lies below: 0.5 for the median, smaller is more patient.
        least_runs: Fewer runs than this make no floor.

    Returns:
        A score a validation, up to the last that ``least_runs`` of the runs had.
    """
    better = max if mode == "max" else min
    worst = -math.inf if mode == "max" else math.inf
    best = [
        list(accumulate((worst if math.isnan(x) else x for x in curve), better)) for curve in curves
    ]
    floor: list[float] = []
    while True:
        reached = sorted(curve[len(floor)] for curve in best if len(curve) > len(floor))
        if len(reached) < max(least_runs, 1):
            return floor
        floor.append(_quantile(reached if mode == "max" else reached[::-1], share))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The last of the runs, from the worst on, that belongs to the share."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
