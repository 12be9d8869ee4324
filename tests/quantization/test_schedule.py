from typing import Any

import pytest

from bitladder.errors import UserError
from bitladder.quantization import Schedule


def test_an_integer_is_an_epoch_and_a_decimal_a_fraction() -> None:
    schedule = Schedule()
    assert not schedule.reached(2, epoch=1, fraction=0.99)
    assert schedule.reached(2, epoch=2, fraction=0.0)
    assert not schedule.reached(0.5, epoch=99, fraction=0.49)
    assert schedule.reached(0.5, epoch=0, fraction=0.5)
    assert schedule.reached(0, epoch=0, fraction=0.0)


def test_one_is_an_epoch_but_one_point_zero_the_end() -> None:
    schedule = Schedule(start=0, freeze_observers=1, freeze_batchnorm=1.0)
    assert schedule.reached(schedule.freeze_observers, epoch=1, fraction=0.1)
    assert not schedule.reached(schedule.freeze_batchnorm, epoch=1, fraction=0.1)


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ({"start": -1}, r"quantization\.start=-1: write an epoch"),
        ({"freeze_observers": 1.5}, r"quantization\.freeze_observers=1\.5: write an epoch"),
        ({"freeze_batchnorm": -0.1}, r"quantization\.freeze_batchnorm=-0\.1: write an epoch"),
        (
            {"start": 0.9},
            r"quantization\.freeze_observers=0\.75 comes before quantization\.start=0\.9",
        ),
        (
            {"start": 3, "freeze_batchnorm": 2},
            r"quantization\.freeze_batchnorm=2 comes before quantization\.start=3",
        ),
    ],
)
def test_impossible_moments_are_refused(moments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Schedule(**moments)


def test_moments_of_different_kinds_cannot_be_compared_beforehand() -> None:
    assert Schedule(start=5, freeze_observers=0.1).start == 5
