"""Precision by quantization: every metric of every recipe."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from bitladder.report.content import Cell, Content, Section, Table
from bitladder.report.grouping import ACCURACY, Point, by_recipe, points, tasks
from bitladder.report.statistics import spread
from bitladder.report.style import plain
from bitladder.runs import RunRecord


def section(records: Sequence[RunRecord]) -> Section | None:
    """A table of means and deviations, and accuracy as a map a task; None below two runs."""
    found = list(points(records))
    if sum(map(len, by_recipe(records).values())) < 2:
        return None  # one run is in the table of all
    figures = []
    for task in tasks(records):
        own = [x for x in found if x.recipe.task == task]
        figures += [f for rung in ("float", "int8") if (f := accuracies(own, rung, task))]
    return Section(
        title="Recipes",
        text="Means over seeds, ± one standard deviation, with the number of runs.",
        tables=[table(found)],
        figures=figures,
    )


def table(found: Sequence[Point]) -> Table:
    """A row a rung of a recipe."""
    keys = dict.fromkeys(
        key for point in found for rung in point.rungs.values() for key in rung.metrics
    )
    batches = dict.fromkeys(
        f"latency_ms/{key}"
        for point in found
        for rung in point.rungs.values()
        for key in rung.latency_ms
    )
    shown = dict.fromkeys(keys, ".4f") | {"size_bytes": ".0f"} | dict.fromkeys(batches, ".3g")
    rows: list[list[Content]] = [
        [
            point.recipe.task,
            point.recipe.precision,
            point.recipe.quantization,
            point.rung,
            len(point.rungs),
            *(spread_cell(list(point.values(key).values()), form) for key, form in shown.items()),
        ]
        for point in found
    ]
    columns = ["task", "precision", "quantization", "rung", "runs", *shown]
    return Table(columns=columns, rows=rows)


def spread_cell(values: Sequence[float], form: str) -> Cell:
    """Mean and deviation, sorted by the mean."""
    centre, deviation = spread(values)
    if math.isnan(centre):
        return Cell("-")
    more = "" if math.isnan(deviation) else f" ± {deviation:{form}}"
    return Cell(f"{centre:{form}}{more}", centre)


def accuracies(found: Sequence[Point], rung: str, task: str) -> go.Figure | None:
    """Mean accuracy of a rung as a map of precision by quantization; None below two recipes."""
    means = {
        (point.recipe.precision, point.recipe.quantization): value
        for point in found
        if point.rung == rung
        and not math.isnan(value := spread(list(point.values(ACCURACY).values()))[0])
    }
    if len(means) < 2:
        return None
    precisions = list(dict.fromkeys(precision for precision, _ in means))
    kinds = list(dict.fromkeys(kind for _, kind in means))
    values = [[means.get((precision, kind)) for kind in kinds] for precision in precisions]
    texts = [["" if x is None else f"{x:.4f}" for x in row] for row in values]
    figure = go.Figure()
    figure.add_heatmap(
        z=values,
        x=[plain(kind) for kind in kinds],
        y=[plain(precision) for precision in precisions],
        text=texts,
        texttemplate="%{text}",
        hovertemplate="%{y} + %{x}: %{z:.4f}<extra></extra>",
    )
    figure.update_layout(
        title=plain(f"{ACCURACY} of {rung} ({task})"),
        xaxis={"title": "quantization", "type": "category"},
        yaxis={"title": "precision", "type": "category", "autorange": "reversed"},
        height=120 + 50 * max(3, len(precisions)),
    )
    return figure
