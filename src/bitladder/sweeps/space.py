"""What a search varies, and how Optuna calls it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Choice:
    """One of several values, without an order between them."""

    values: tuple[Value, ...]

    def distribution(self) -> BaseDistribution:
        """The axis as Optuna's."""
        return CategoricalDistribution(self.values)


@dataclass(frozen=True)
class Interval:
    """A number between two others, both included.

    Attributes:
        low: The least.
        high: The greatest.
        log: Whether the logarithm is uniform rather than the number.
        integer: Whether only whole numbers count.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def distribution(self) -> BaseDistribution:
        """The axis as Optuna's.

        Raises:
            ValueError: If the bounds are in the wrong order, or not positive where ``log`` asks.
        """
        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


Axis = Choice | Interval


def described(axis: Axis) -> str:
    """The axis in words that two searches can be compared by."""
    return repr(axis)


def choice(values: Sequence[Any]) -> Choice:
    """A choice of values that were written on a command line."""
    return Choice(tuple(values))
