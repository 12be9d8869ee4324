"""Which layer suffers under which recipe."""

import math
from collections.abc import Sequence
from statistics import mean

import plotly.graph_objects as go

from bitladder.report.content import Section
from bitladder.report.grouping import by_recipe, tasks
from bitladder.report.style import plain
from bitladder.runs import RunRecord
from bitladder.runs.reading import lookup, real

TEXT = """\
SQNR in dB of each quantized layer in the model, the mean over seeds, against what training or
calibration rounded: what conversion added. Dark is exact; a light row is a layer to look at, a
light column a recipe. White was not quantized, or agreed to the bit.
"""


def section(records: Sequence[RunRecord]) -> Section | None:
    """A map a task."""
    figures = [figure for task in tasks(records) if (figure := layers(records, task)) is not None]
    return Section(title="Layers by recipe", text=TEXT, figures=figures) if figures else None


def layers(records: Sequence[RunRecord], task: str) -> go.Figure | None:
    """SQNR by layer and recipe; None where fewer than two recipes measured it."""
    columns: dict[str, dict[str, float]] = {}
    for recipe, runs in by_recipe(records).items():
        values: dict[str, list[float]] = {}
        for run in runs if recipe.task == task else []:
            for name, value in decibels(run).items():
                values.setdefault(name, []).append(value)
        if values:
            columns[recipe.label] = {name: mean(found) for name, found in values.items()}
    if len(columns) < 2:
        return None
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    figure = go.Figure()
    figure.add_heatmap(
        z=[[column.get(name) for column in columns.values()] for name in names],
        x=list(columns),
        y=[plain(name) for name in names],
        colorbar={"title": {"text": "dB"}},
        hovertemplate="%{y}, %{x}: %{z:.1f} dB<extra></extra>",
    )
    figure.update_layout(
        title=plain(f"SQNR by layer and recipe ({task})"),
        xaxis={"type": "category"},
        yaxis={"type": "category", "autorange": "reversed"},
        height=max(260, 160 + 20 * len(names)),
    )
    return figure


def decibels(record: RunRecord) -> dict[str, float]:
    """What ``quantization.json`` says of each quantized layer, where it is a number."""
    found = lookup(record.quantization, "layers")
    values: dict[str, float] = {}
    for layer in found if isinstance(found, list) else []:
        name, value = lookup(layer, "name"), real(lookup(layer, "sqnr_db"))
        if isinstance(name, str) and value is not None and math.isfinite(value):
            values[name] = value
    return values
