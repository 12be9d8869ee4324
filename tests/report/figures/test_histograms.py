"""Histograms with the ranges of their grids."""

from collections.abc import Callable
from typing import Any

import pytest

from bitladder.errors import UserError
from bitladder.report.figures import histograms
from bitladder.runs import RunRecord, write_json

Make = Callable[..., RunRecord]
PART = {"low": -1.0, "high": 1.0, "counts": [1, 2, 3, 4], "range": [-0.5, 0.5], "clipped": 0.25}


def layer(name: str = "stem", **changes: Any) -> dict[str, Any]:
    return {"name": name, "weight": PART, "input": PART} | changes


def ends(figure: Any, axis: str) -> list[float]:
    """Where vertical lines stand on an axis."""
    return [shape.x0 for shape in figure.layout.shapes if shape.xref == axis]


def test_every_layer_has_its_weight_and_input_with_the_ends_of_their_grids(run: Make) -> None:
    record = run()
    layers = [layer("<b>", input=None), layer("b", input=PART | {"range": [-2.0, 3.0]})]
    write_json(record.directory.histograms, {"layers": layers})
    section = histograms.section(record)
    assert section is not None
    figure: Any = section.figures[0]
    assert list(figure.data[0].x) == [-0.75, -0.25, 0.25, 0.75]
    assert list(figure.data[0].y) == [0.1, 0.2, 0.3, 0.4]
    assert [bars.xaxis for bars in figure.data] == ["x", "x3", "x4"]
    assert [ends(figure, axis) for axis in ("x", "x2", "x4")] == [[-0.5, 0.5], [], [-2.0, 3.0]]
    low, high = figure.layout.xaxis4.range
    assert low < -2.0
    assert high > 3.0
    titles = [title.text for title in figure.layout.annotations]
    assert titles == ["&lt;b&gt;", "input stays float", "b", "25% clipped"]


def test_bins_without_values_have_no_place_on_a_logarithmic_axis() -> None:
    figure: Any = histograms.histograms([layer(weight=PART | {"counts": [1, 0, 3]})])
    assert list(figure.data[0].y) == [0.25, None, 0.75]


def test_values_that_are_all_equal_are_a_bar_that_can_be_seen() -> None:
    point = {"low": 2.0, "high": 2.0, "counts": [7], "range": None}
    figure: Any = histograms.histograms([layer(weight=point)])
    assert list(figure.data[0].y) == [1.0]
    assert figure.data[0].width > 0


def test_of_many_layers_those_that_clip_most_are_drawn_in_the_models_order(run: Make) -> None:
    count = histograms.MOST_LAYERS + 5
    layers = [layer(str(i), input=PART | {"clipped": i / 10 + 1}) for i in range(count)]
    shown = histograms.most_clipped(layers)
    assert [x["name"] for x in shown] == [str(i) for i in range(5, count)]
    record = run()
    write_json(record.directory.histograms, {"layers": layers})
    section = histograms.section(record)
    assert section is not None
    assert f"the {histograms.MOST_LAYERS} of {count} layers" in section.text
    assert len(section.tables[0].rows) == count


def test_long_names_keep_their_end() -> None:
    figure: Any = histograms.histograms([layer("blocks." * 9 + "conv1")])
    title = figure.layout.annotations[0].text
    assert len(title) == histograms.LONGEST_NAME
    assert title.endswith("blocks.conv1")


@pytest.mark.parametrize(
    "part",
    [
        None,
        {},
        3,
        PART | {"counts": []},
        PART | {"counts": ["x"]},
        PART | {"counts": [1] * 129},
        PART | {"low": "?"},
        PART | {"high": "Infinity"},
    ],
)
def test_what_is_no_histogram_is_not_drawn(run: Make, part: Any) -> None:
    record = run()
    write_json(record.directory.histograms, {"layers": [{"name": "a", "weight": part}, 7]})
    assert histograms.section(record) is None


def test_without_a_range_there_are_no_lines_and_that_is_said() -> None:
    figure: Any = histograms.histograms([layer(input=PART | {"range": None, "clipped": None})])
    assert ends(figure, "x2") == []
    assert figure.layout.annotations[1].text == "input: no fixed range"


def test_a_damaged_file_is_said(run: Make) -> None:
    record = run()
    assert histograms.section(record) is None
    record.directory.histograms.write_text("{}")
    with pytest.raises(UserError, match="has no layers"):
        histograms.section(record)
