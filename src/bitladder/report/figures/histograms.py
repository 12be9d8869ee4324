"""Where the values of weights and activations lie, and what their grids cover."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from bitladder.errors import UserError
from bitladder.report.content import Section, Table, number
from bitladder.report.style import FLOAT_COLOUR, INT8_COLOUR, NEUTRAL, plain
from bitladder.runs import RunRecord, read_json
from bitladder.runs.reading import LARGEST_DOCUMENT_BYTES, lookup, readable, real

TEXT = """\
Values of each quantized layer's weight (with its BatchNorm folded in) and input, in float, on one
batch. Dashed lines are the ends of the range that the grid covers; what lies outside is clipped to
them. A weight has a range for each channel: drawn is the widest. A range that comes at run time has
no lines. Counts are on a logarithmic scale.
"""


def section(record: RunRecord) -> Section | None:
    """A histogram at a time, chosen from a list; None where none were recorded.

    Raises:
        UserError: If ``histograms.json`` cannot be read.
    """
    directory = record.directory
    if not readable(directory, directory.histograms, LARGEST_DOCUMENT_BYTES):
        return None
    found = lookup(read_json(directory.histograms), "layers")
    if not isinstance(found, list):
        raise UserError(f"{directory.histograms} has no layers")
    layers = [layer for layer in found if isinstance(layer, Mapping)]
    rows = [
        [str(layer.get("name")), *(number(share(layer.get(part))) for part in ("weight", "input"))]
        for layer in layers
    ]
    figures = [
        figure for part in ("weight", "input") if (figure := chosen(layers, part)) is not None
    ]
    if not figures:
        return None
    table = Table(columns=["layer", "weight clipped, %", "input clipped, %"], rows=rows)
    return Section(title="Histograms", text=TEXT, tables=[table], figures=figures)


def share(part: object) -> float | None:
    """The share of values that are clipped, in percent."""
    clipped = real(lookup(part, "clipped"))
    return None if clipped is None else 100 * clipped


def chosen(layers: list[Mapping[str, Any]], part: str) -> go.Figure | None:
    """One layer's histogram, with a list to choose the layer from; None where there is none."""
    shown = {
        str(layer.get("name")): bars
        for layer in layers
        if (bars := _bars(layer.get(part))) is not None
    }
    if not shown:
        return None
    colour = FLOAT_COLOUR if part == "weight" else INT8_COLOUR
    figure = go.Figure()
    buttons = []
    for index, (name, (centres, counts, width, covered)) in enumerate(shown.items()):
        figure.add_bar(
            x=centres, y=counts, width=width, visible=index == 0, marker_color=colour, name=part
        )
        lines = [
            {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"}
            | {"line": {"dash": "dash", "width": 2, "color": NEUTRAL}}  # seen in both themes
            for x in covered
        ]
        if index == 0:
            figure.update_layout(shapes=lines)
        buttons.append(
            {
                "label": plain(name or "the model"),
                "method": "update",
                "args": [
                    {"visible": [other == index for other in range(len(shown))]},
                    {"shapes": lines},
                ],
            }
        )
    figure.update_layout(
        title=f"Histogram of a layer's {part}",
        xaxis={"title": "value"},
        yaxis={"title": "count", "type": "log"},
        bargap=0,
        height=380,
        updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.15}],
    )
    return figure


def _bars(part: object) -> tuple[list[float], list[int], float, list[float]] | None:
    """Centres, counts and width of the bins, and the range; None of what is no histogram."""
    low, high, counts = (lookup(part, key) for key in ("low", "high", "counts"))
    low, high = real(low), real(high)
    if low is None or high is None or not isinstance(counts, list) or not counts:
        return None
    if not all(isinstance(count, int) for count in counts):
        return None
    width = (high - low) / len(counts) or 1.0
    covered = lookup(part, "range")
    ends = [x for x in map(real, covered if isinstance(covered, list) else []) if x is not None]
    centres = [low + (index + 0.5) * width for index in range(len(counts))]
    return centres, counts, width, ends
