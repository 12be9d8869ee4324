import math
from typing import Any

import pytest

from bitladder.report.content import as_cell
from bitladder.report.figures.layers import input_range, left_in_float, quantized, sensitivity, sqnr

GRID = {"bits": 8, "scheme": "affine per tensor", "scale": 0.5, "zero_point": 10}
LAYER = {"name": "a", "type": "Linear", "quantized": True, "multiply_adds": 30, "input": GRID}


@pytest.mark.parametrize(
    ("changes", "bounds"),
    [
        ({}, (-5.0, 122.5)),
        ({"scheme": "symmetric per tensor", "zero_point": 0}, (-64.0, 63.5)),
        ({"bits": 4}, (-5.0, 2.5)),
        ({"scale": [0.5, 0.5]}, None),
        ({"bits": "<b>"}, None),
        ({"zero_point": None}, None),
    ],
)
def test_a_range_is_what_the_grid_holds(
    changes: dict[str, Any], bounds: tuple[float, float] | None
) -> None:
    assert input_range(GRID | changes) == bounds


def test_a_quantized_layer_says_how_much_of_the_work_it_does() -> None:
    layers = [LAYER, LAYER | {"multiply_adds": 10, "kernel": "none", "kernel_reason": "4 bits"}]
    table = quantized(layers)
    at = table.columns.index("multiply-adds")
    assert [as_cell(row[at]).text for row in table.rows] == ["75.0%", "25.0%"]
    assert table.rows[1][2] == "none: 4 bits"


def test_folded_layers_are_not_left_in_float() -> None:
    layers = [
        LAYER,
        {"name": "b", "type": "BatchNorm2d", "quantized": False, "reason": "folded into a"},
        {"name": "c", "type": "LSTM", "quantized": False, "reason": "skip=[c]"},
        {"name": "d", "type": "X", "quantized": False},
    ]
    assert left_in_float(layers).rows == [["c", "LSTM", "skip=[c]"], ["d", "X", "-"]]


def test_infinite_and_missing_ratios_are_not_drawn() -> None:
    layers = [
        LAYER | {"sqnr_db": 30.0, "local_sqnr_db": "Infinity"},
        LAYER | {"name": "<b>", "sqnr_db": "NaN", "local_sqnr_db": 50.0},
    ]
    figure = sqnr(layers)
    assert figure is not None
    traces: Any = figure.data
    alone, in_model = traces
    assert (alone.x, in_model.x) == ((None, 50.0), (30.0, None))
    assert alone.y == ("a", "&lt;b&gt;")
    assert sqnr([LAYER]) is None
    assert sqnr([LAYER | {"sqnr_db": math.nan}]) is None


def test_what_one_layer_costs_is_a_bar() -> None:
    figure = sensitivity([LAYER | {"sensitivity_db": 33.0}, LAYER | {"sensitivity_db": "Infinity"}])
    assert figure is not None
    traces: Any = figure.data
    assert traces[0].x == (33.0,)
    assert sensitivity([LAYER]) is None
    at = quantized([LAYER]).columns.index("if only it is rounded")
    assert as_cell(quantized([LAYER | {"sensitivity_db": 33.0}]).rows[0][at]).text == "33.0 dB"
