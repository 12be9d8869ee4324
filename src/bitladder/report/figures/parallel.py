"""Every run as a line through what it was and what it came to."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from bitladder.report.content import Section
from bitladder.report.grouping import ACCURACY, measured, recipe_of
from bitladder.report.style import plain
from bitladder.runs import Rung, RunRecord

MEASURED = {
    ACCURACY: "accuracy",
    "size_bytes": "size, bytes",
    "latency_ms/batch_1": "batch 1, ms",
    "latency_ms/batch_32": "batch 32, ms",
}

VIRIDIS = "Viridis"
"""A scale of even steps that colour-blind eyes read, and grey paper."""


def section(records: Sequence[RunRecord]) -> Section | None:
    """Parallel coordinates of the completed runs; None below two."""
    runs = [(record, rung) for record in records if (rung := last(record)) is not None]
    figure = coordinates(runs)
    if figure is None:
        return None
    return Section(
        title="Parallel coordinates",
        text="A line is a run: its int8 model, or the float one where there is no other. Drag "
        "along an axis to keep the lines that pass there; drag a heading to move its axis.",
        figures=[figure],
    )


def coordinates(runs: Sequence[tuple[RunRecord, Rung]]) -> go.Figure | None:
    """A line a run; axes on which all are the same are left out."""
    axes: list[dict[str, Any]] = []
    recipes = [recipe_of(record) for record, _ in runs]
    for label in ("task", "precision", "quantization"):
        names = [getattr(recipe, label) for recipe in recipes]
        known = list(dict.fromkeys(names))
        if len(known) > 1:
            axes.append(
                {
                    "label": label,
                    "values": [known.index(name) for name in names],
                    "tickvals": list(range(len(known))),
                    "ticktext": [plain(name) for name in known],
                }
            )
    colours: list[float] | None = None
    for key, label in MEASURED.items():
        values = [measured(rung, key) for _, rung in runs]
        numbers = [x for x in values if x is not None and math.isfinite(x)]
        if len(numbers) != len(runs) or len(set(numbers)) < 2:
            continue
        colours = numbers if key == ACCURACY else colours
        axes.append({"label": label, "values": numbers})
    if len(runs) < 2 or len(axes) < 2:
        return None
    line = {"color": colours, "colorscale": VIRIDIS, "showscale": True} if colours else None
    figure = go.Figure()
    figure.add_trace(go.Parcoords(dimensions=axes, line=line))
    figure.update_layout(
        title="Runs, coloured by accuracy", height=420, margin={"t": 90, "l": 80, "r": 80}
    )
    return figure


def last(record: RunRecord) -> Rung | None:
    """The rung that a completed run is about."""
    if record.state != "completed":
        return None
    return record.rungs.get("int8") or record.rungs.get("float")
