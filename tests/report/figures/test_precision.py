from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bitladder.report.figures.precision import fp8_linears, loss_scale, section, skipped_steps
from bitladder.runs import RunRecord, Series

Make = Callable[..., RunRecord]


def test_loss_scale_and_skipped_steps_are_drawn_from_either_source(run: Make) -> None:
    for source in ("precision", "numerics"):
        record = run(source)
        record.metrics[f"{source}/loss_scale"] = Series([0, 1], [65536.0, 32768.0])
        record.metrics[f"{source}/skipped_steps"] = Series([0, 1], [0.0, 1.0])
        scale, skipped = loss_scale(record), skipped_steps(record)
        assert scale is not None
        assert skipped is not None
        drawn: list[Any] = [scale.data[0], skipped.data[0]]
        assert [trace.y.tolist() for trace in drawn] == [[65536.0, 32768.0], [0.0, 1.0]]
        assert scale.layout.yaxis.type == "log"


def test_linears_that_did_not_run_in_fp8_say_why(run: Make) -> None:
    linears = [
        {"name": "a", "in_features": 16, "out_features": 32, "executed": True},
        {"name": "b", "in_features": 3, "out_features": 5, "executed": False, "reason": "16"},
    ]
    record = replace(run(), precision={"summary": "fp8: 1 of 2", "linears": linears})
    table = fp8_linears(record)
    assert table is not None
    assert [list(row[:5]) for row in table.rows] == [
        ["a", 16.0, 32.0, True, "-"],
        ["b", 3.0, 5.0, False, "16"],
    ]
    made = section(record)
    assert made is not None
    assert made.text == "fp8: 1 of 2."


def test_other_precisions_have_no_such_section(run: Make) -> None:
    assert section(run()) is None
