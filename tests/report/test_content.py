import math

import pytest

from bitladder.report.content import Cell, Content, as_cell, number


@pytest.mark.parametrize(
    ("content", "text", "value"),
    [
        (None, "-", None),
        (0.5, "0.5", 0.5),
        (1 / 3, "0.3333", 1 / 3),
        (3, "3", 3.0),
        (10**400, str(10**400), None),
        (True, "yes", None),
        ("x", "x", None),
        (math.nan, "NaN", None),
        (math.inf, "∞", math.inf),
        (-math.inf, "-∞", -math.inf),
    ],
)
def test_everything_that_may_stand_in_a_table_becomes_a_cell(
    content: Content, text: str, value: float | None
) -> None:
    assert as_cell(content) == Cell(text, value)


def test_a_number_sorts_by_itself_and_not_by_its_text() -> None:
    assert number(1234.5, ".3g", " ms") == Cell("1.23e+03 ms", 1234.5)
