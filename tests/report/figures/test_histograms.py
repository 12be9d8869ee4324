"""Histograms with the ranges of their grids."""

from collections.abc import Callable
from typing import Any

import pytest

from bitladder.errors import UserError
from bitladder.report.figures import histograms
from bitladder.runs import RunRecord, write_json

Make = Callable[..., RunRecord]
PART = {"low": -1.0, "high": 1.0, "counts": [1, 2, 3, 4], "range": [-0.5, 0.5], "clipped": 0.25}


def test_a_layer_is_chosen_from_a_list_and_its_range_drawn(run: Make) -> None:
    record = run()
    layers = [{"name": "<b>", "weight": PART, "input": None}, {"name": "b", "weight": PART}]
    write_json(record.directory.histograms, {"layers": layers})
    section = histograms.section(record)
    assert section is not None
    (figure,) = section.figures
    content: Any = figure.to_plotly_json()
    assert list(content["data"][0]["x"]) == [-0.75, -0.25, 0.25, 0.75]
    assert [trace["visible"] for trace in content["data"]] == [True, False]
    assert [line["x0"] for line in content["layout"]["shapes"]] == [-0.5, 0.5]
    labels = [button["label"] for button in content["layout"]["updatemenus"][0]["buttons"]]
    assert labels == ["&lt;b&gt;", "b"]


@pytest.mark.parametrize(
    "part",
    [None, {}, PART | {"counts": []}, PART | {"counts": ["x"]}, PART | {"low": "?"}, 3],
)
def test_what_is_no_histogram_is_not_drawn(run: Make, part: Any) -> None:
    record = run()
    write_json(record.directory.histograms, {"layers": [{"name": "a", "weight": part}, 7]})
    assert histograms.section(record) is None


def test_without_a_range_there_are_no_lines() -> None:
    figure = histograms.chosen([{"name": "a", "input": PART | {"range": None}}], "input")
    assert figure is not None
    assert not figure.to_plotly_json()["layout"].get("shapes")


def test_a_damaged_file_is_said(run: Make) -> None:
    record = run()
    assert histograms.section(record) is None
    record.directory.histograms.write_text("{}")
    with pytest.raises(UserError, match="has no layers"):
        histograms.section(record)
