import math
from collections.abc import Callable
from typing import Any

from bitladder.report.content import as_cell
from bitladder.report.figures.numerics import Key, mean, parse, section
from bitladder.runs import RunRecord, Series

Make = Callable[..., RunRecord]


def test_keys_are_taken_apart() -> None:
    assert parse("numerics/weight/net.0/amax") == Key("weight", "net.0", None, "amax")
    assert parse("numerics/gradient/net.0/e4m3/underflow") == Key(
        "gradient", "net.0", "e4m3", "underflow"
    )
    for key in ("numerics/loss_scale", "numerics/gradient_norm/0", "val/loss", "numerics/x/y/z"):
        assert parse(key) is None


def test_the_mean_of_modules_is_taken_step_by_step() -> None:
    series = mean([Series([0, 20], [0.0, 1.0]), Series([20, 10], [0.5, 0.25])])
    assert (series.steps, series.values) == ([0, 10, 20], [0.0, 0.25, 0.75])


def test_shares_are_drawn_by_kind_with_a_line_a_format_in_each_panel(run: Make) -> None:
    record = run()
    both = Series([0, 100], [0.1, 0.2])
    record.metrics.update(
        {
            "numerics/gradient/net.0/fp16/underflow": both,
            "numerics/gradient/net.0/e4m3/underflow": both,
            "numerics/gradient/net.0/e4m3/saturated": both,
            "numerics/gradient/net.0/amax": Series([0, 100], [math.nan, 7.0]),
            "numerics/gradient_norm": both,
        }
    )
    made = section(record)
    assert made is not None
    shares, norm = made.figures
    assert shares.layout.title.text.startswith("Gradients of activations")
    traces: Any = shares.data
    assert [trace.name for trace in traces if trace.showlegend] == ["fp16", "e4m3"]
    assert norm.layout.title.text.startswith("Norm of the gradients")
    ((kind, module, amax, *rest),) = made.tables[0].rows
    assert (kind, module, as_cell(amax).text) == ("gradients of activations", "net.0", "7")
    assert {as_cell(content).text for content in rest} == {"-"}


def test_without_the_monitor_there_is_no_section(run: Make) -> None:
    assert section(run()) is None
