"""The answer to whether both rungs fail on the same samples."""

from collections.abc import Callable

import numpy as np
import pytest

from bitladder.report.figures import overlap
from bitladder.runs import RunRecord
from bitladder.runs.predictions import Predictions

Make = Callable[..., RunRecord]


def predictions(float_wrong: list[int], int8_wrong: list[int], samples: int = 20) -> Predictions:
    logits = {}
    for name, wrong in (("float", float_wrong), ("int8", int8_wrong)):
        logits[name] = np.tile(np.array([1.0, 0.0], dtype=np.float32), (samples, 1))
        logits[name][wrong] = [0.0, 1.0]
    return Predictions(np.zeros(samples, dtype=np.int64), logits)


@pytest.mark.parametrize(
    ("float_wrong", "int8_wrong", "says"),
    [
        ([], [], "Neither rung makes an error"),
        ([], [1], "nothing can overlap by choice"),
        ([1, 2], [1, 2], "mostly on the same samples: 100% of all errors are common"),
        ([*range(8)], [*range(8, 16)], "on other samples than each other: 0% of all errors"),
        ([1, 2, 3, 4, 5], [5, 6, 7, 8], "as often as by chance: 12% of all errors are common"),
        ([*range(20)], [1, 2], "nothing can overlap by choice"),
        ([1, 2], [1, 3, 4, 5], "With 2 errors of float and 4 of int8, a single sample"),
    ],
)
def test_the_answer_is_a_sentence(float_wrong: list[int], int8_wrong: list[int], says: str) -> None:
    found = overlap.overlap(predictions(float_wrong, int8_wrong))
    assert says in overlap.answer(found)
    assert (overlap.scale(found) is None) == (not float_wrong and not int8_wrong)


def test_what_is_beyond_chance_in_many_samples_is_not_called_chance() -> None:
    # 8 common errors where chance gives 1.6: far from the most, and no accident.
    found = overlap.overlap(predictions([*range(40)], [*range(32, 72)], samples=1000))
    assert found.excess < 0.1
    assert "more often than by chance" in overlap.answer(found)
    assert "a single sample" not in overlap.answer(found)


def test_a_run_shows_it(run: Make) -> None:
    made = overlap.section(run())
    assert made is not None
    assert [row[0] for row in made.tables[0].rows][:2] == [
        "error rate of float",
        "error rate of int8",
    ]
    assert overlap.section(run("float", int8=False)) is None
