"""Where the values of weights and activations lie, and what their grids cover."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bitladder.errors import UserError
from bitladder.report.content import Section, Table, number
from bitladder.report.style import FLOAT_COLOUR, INT8_COLOUR, plain
from bitladder.runs import RunRecord, read_json
from bitladder.runs.reading import LARGEST_DOCUMENT_BYTES, lookup, readable, real

MOST_LAYERS = 24
"""Drawn, those that clip most: more is too long a figure."""

MOST_BINS = 128
"""Of a histogram that a run writes."""

ROW = 130
"""Pixels of a layer's row."""

LONGEST_NAME = 22
"""Characters of a layer's name that stand over its row: its end tells it from others."""

TEXT = """\
Values of each quantized layer's weight (on the left, its BatchNorm folded in) and input (on the
right), in float, on one batch. Lines are the ends of the range that the grid covers: what lies
outside is clipped to them. A weight has a range for each channel; drawn is the widest. A range
that comes at run time has no lines. Shares are on a logarithmic scale, so that tails show.
"""

Bars: TypeAlias = tuple[list[float], list[int], float, list[float]]
"""Centres, counts and width of the bins, and the ends of the grid."""


def section(record: RunRecord) -> Section | None:
    """The histograms of all layers; None where none were recorded.

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
    shown = most_clipped(layers)
    if not shown:
        return None
    some = f"The figure shows the {len(shown)} of {len(layers)} layers that clip most."
    return Section(
        title="Histograms",
        text=TEXT if len(shown) == len(layers) else f"{TEXT}\n\n{some}",
        tables=[Table(columns=["layer", "weight clipped, %", "input clipped, %"], rows=rows)],
        figures=[histograms(shown)],
    )


def share(part: object) -> float | None:
    """The share of values that are clipped, in percent."""
    clipped = real(lookup(part, "clipped"))
    return None if clipped is None else 100 * clipped


def most_clipped(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The layers that have a histogram, at most `MOST_LAYERS`, in the model's order."""
    places = [i for i, layer in enumerate(layers) if _bars(layer.get("weight"))]
    by_share = sorted(places, key=lambda place: _clipped(layers[place]), reverse=True)
    return [layers[place] for place in sorted(by_share[:MOST_LAYERS])]


def histograms(layers: Sequence[Mapping[str, Any]]) -> go.Figure:
    """A row a layer: its weight, and its input beside it, with the ends of their grids.

    All of them at once, so that they can be compared, printed and saved.
    """
    titles = [title for layer in layers for title in (_name(layer.get("name")), _of_input(layer))]
    height = ROW * len(layers)
    figure = make_subplots(
        rows=len(layers),
        cols=2,
        subplot_titles=titles,
        vertical_spacing=0.4 * ROW / height if len(layers) > 1 else 0,
        horizontal_spacing=0.18,
    )
    for row, layer in enumerate(layers, start=1):
        for column, part in enumerate(("weight", "input"), start=1):
            if (bars := _bars(layer.get(part))) is not None:
                _draw(figure, bars, row, column)
    # At the outer ends of a row, where they do not meet on a phone.
    for index, title in enumerate(figure.select_annotations()):
        title.update(x=index % 2, xanchor=("left", "right")[index % 2], font={"size": 12})
    figure.update_xaxes(nticks=5, tickangle=0)
    figure.update_yaxes(type="log", tickformat="~%", nticks=4)
    figure.update_layout(
        title="Weights (left) and inputs (right) of the quantized layers, and the ends of their"
        " grids",
        height=height + 110,
        showlegend=False,
        bargap=0,
    )
    return figure


def _draw(figure: go.Figure, bars: Bars, row: int, column: int) -> None:
    centres, counts, width, ends = bars
    total = max(1, sum(counts))
    figure.add_bar(
        x=centres,
        y=[count / total if count > 0 else None for count in counts],
        width=width,
        marker={"color": FLOAT_COLOUR, "line": {"width": 0}},
        hovertemplate="%{x:.4g}: %{y:.2%}<extra></extra>",
        row=row,
        col=column,
    )
    line = {"color": INT8_COLOUR, "width": 2, "dash": "solid"}
    place: dict[str, Any] = {"row": row, "col": column}  # numbers, which plotly calls strings
    for end in ends:
        figure.add_vline(x=end, line=line, **place)
    seen = [centres[0] - width / 2, centres[-1] + width / 2, *ends]
    margin = 0.04 * (max(seen) - min(seen))
    figure.update_xaxes(range=[min(seen) - margin, max(seen) + margin], row=row, col=column)


def _of_input(layer: Mapping[str, Any]) -> str:
    part = layer.get("input")
    if _bars(part) is None:
        return "input stays float"
    if lookup(part, "range") is None:
        return "input: no fixed range"
    clipped = share(part)
    return "input" if clipped is None else f"{clipped:.2g}% clipped"


def _name(name: object) -> str:
    text = str(name or "the model")
    return plain(text if len(text) <= LONGEST_NAME else f"…{text[1 - LONGEST_NAME :]}")


def _clipped(layer: Mapping[str, Any]) -> float:
    shares = (share(layer.get(part)) for part in ("weight", "input"))
    return max(x if x is not None and math.isfinite(x) else 0.0 for x in shares)


def _bars(part: object) -> Bars | None:
    """What is drawn; None of what is no histogram of a run's."""
    low, high, counts = (lookup(part, key) for key in ("low", "high", "counts"))
    low, high = real(low), real(high)
    if low is None or high is None or not isinstance(counts, list):
        return None
    if not 0 < len(counts) <= MOST_BINS or not math.isfinite(high - low):
        return None
    if not all(isinstance(count, int) for count in counts):
        return None
    width = (high - low) / len(counts) or 1.0
    covered = lookup(part, "range")
    found = map(real, covered[:2] if isinstance(covered, list) else [])
    ends = [x for x in found if x is not None and math.isfinite(x)]
    centres = [low + (index + 0.5) * width for index in range(len(counts))]
    return centres, counts, width, ends
