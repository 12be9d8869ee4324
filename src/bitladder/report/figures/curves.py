"""Learning curves: what was logged, step by step."""

import math
from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from bitladder.report.content import Section
from bitladder.report.style import plain
from bitladder.runs import RunRecord, Series

MOST_POINTS = 2000
"""A screen has about so many columns: longer series are drawn by their extremes."""

MARKED_POINTS = 40
"""Up to so many points each has a marker; more would hide the line."""

OWN_SECTIONS = ("numerics/", "precision/", "float/latency", "float/size", "int8/")
"""Keys that are shown elsewhere."""


def section(record: RunRecord) -> Section | None:
    """Everything that rises or falls while a run trains, except for the numerics."""
    figures = learning_curves(record)
    if not figures:
        return None
    text = ""
    if any(len(series) > MOST_POINTS for series in record.metrics.values()):
        text = (
            f"Of more than {MOST_POINTS} points the least and the greatest of each part are drawn."
        )
    return Section(title="Learning curves", text=text, figures=figures)


def learning_curves(record: RunRecord) -> list[go.Figure]:
    """One figure a quantity: ``train/loss_step`` and ``val/loss`` are in the same."""
    groups: dict[str, list[str]] = {}
    for key, series in record.metrics.items():
        if len(series) > 1 and key != "epoch" and not key.startswith(OWN_SECTIONS):
            groups.setdefault(quantity(key), []).append(key)
    order = sorted(groups, key=lambda name: (name != "loss", name.startswith("lr"), name))
    return [curves(name, {key: record.metrics[key] for key in groups[name]}) for name in order]


def quantity(key: str) -> str:
    """What a key measures: ``float/val/loss_epoch`` is a ``loss``; learning rates are one."""
    if key.startswith("lr-"):
        return "lr (learning rate)"
    return key.rpartition("/")[2].removesuffix("_step").removesuffix("_epoch")


def curves(title: str, series: dict[str, Series]) -> go.Figure:
    """A line a series, over steps. Values that are NaN or infinite are gaps, and said so."""
    figure = go.Figure()
    gaps = 0
    for key, one in sorted(series.items()):
        gaps += sum(not math.isfinite(value) for value in one.values)
        steps, values = thinned(one)
        mode = "lines+markers" if len(steps) <= MARKED_POINTS else "lines"
        figure.add_scatter(x=steps, y=values, name=plain(key), mode=mode)
    note = f" ({gaps} values are NaN or infinite: gaps)" if gaps else ""
    figure.update_layout(title=plain(title) + note, xaxis_title="step", showlegend=True, height=380)
    return figure


def thinned(series: Series, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values ``[points]``, float64, at most `most` of them.

    Every part of the series keeps its least and its greatest value, so no spike is lost; what is
    not finite is NaN, which plotly leaves out.
    """
    steps = np.asarray(series.steps, dtype=np.float64)
    values = np.asarray(series.values, dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    if len(values) <= most:
        return steps, values
    kept: set[int] = set()
    for part in np.array_split(np.arange(len(values)), most // 2):
        kept.update(_extremes(values[part], part))
    chosen = sorted(kept)
    return steps[chosen], values[chosen]


def _extremes(values: np.ndarray, places: np.ndarray) -> Iterable[int]:
    if np.isnan(values).all():
        return (int(places[0]),)
    return int(places[np.nanargmin(values)]), int(places[np.nanargmax(values)])
