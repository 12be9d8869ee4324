import math
from typing import Any

from bitladder.report.content import as_cell
from bitladder.report.figures.rungs import ratios, side_by_side
from bitladder.runs import Rung

FLOAT = Rung(
    metrics={"test/accuracy": 0.9, "test/loss": math.nan},
    size_bytes=1000,
    latency_ms={"batch_1": 2.0},
)
INT8 = Rung(metrics={"test/accuracy": 0.8}, size_bytes=250, latency_ms={"batch_1": 0.5})


def texts(rungs: dict[str, Rung]) -> list[list[str]]:
    return [[as_cell(content).text for content in row] for row in side_by_side(rungs).rows]


def test_metrics_are_compared_by_difference_and_the_rest_by_ratio() -> None:
    assert texts({"float": FLOAT, "int8": INT8}) == [
        ["test/accuracy", "0.9000", "0.8000", "-0.1000"],
        ["test/loss", "NaN", "-", "-"],
        ["size of the file", "1 kB", "250 B", "0.25x"],
        ["latency, batch 1", "2 ms", "0.5 ms", "0.25x"],
    ]


def test_one_rung_alone_is_compared_with_nothing() -> None:
    assert texts({"int8": INT8})[0] == ["test/accuracy", "0.8000"]
    assert ratios({"float": FLOAT}) is None
    assert ratios({"int8": INT8}) is None


def test_bars_are_percent_of_float() -> None:
    figure = ratios({"float": FLOAT, "int8": INT8})
    assert figure is not None
    bar: Any = figure.data[0]
    assert dict(zip(bar.y, bar.x, strict=True)) == {"size": 25.0, "latency, batch 1": 25.0}


def test_sizes_and_times_of_nothing_are_left_out() -> None:
    nothing = Rung(metrics={}, size_bytes=0, latency_ms={"batch_1": 0.0})
    figure = ratios({"float": nothing, "int8": INT8})
    assert figure is not None
    bar: Any = figure.data[0]
    assert not bar.x
    assert texts({"float": nothing, "int8": INT8})[1][-1] == "-"
