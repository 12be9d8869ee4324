"""What formats do to weights, activations and gradients, where NumericsMonitor logged it."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bitladder.report.content import Content, Section, Table, number
from bitladder.report.figures.curves import thinned
from bitladder.report.style import DASHES, OKABE_ITO, SYMBOLS, plain
from bitladder.runs import RunRecord, Series

KINDS = {
    "weight": "weights",
    "activation": "activations",
    "gradient": "gradients of activations",
    "weight_gradient": "gradients of weights",
}
SHARES = ("underflow", "subnormal", "saturated")
FIGURES = ("amax", "zero", "nonfinite", *SHARES)
"""Of the training format, for each module."""

TEXT = """\
Shares of values that a format would store as zero (underflow), as subnormal numbers with fewer
bits, or not at all because they are too large (saturated); means over the modules, without any
scale. The table has, for the training format, the greatest value of each over the whole training.
"""


@dataclass(frozen=True)
class Key:
    """``numerics/<kind>/<module>/[<format>/]<figure>``, taken apart."""

    kind: str
    module: str
    format: str | None
    figure: str


def section(record: RunRecord) -> Section | None:
    """Shares by format over time, and the worst of every module."""
    keys = {key: parsed for key in record.metrics if (parsed := parse(key))}
    if not keys:
        return None
    figures = [figure for kind in KINDS if (figure := shares(record, keys, kind))]
    if (norm := gradient_norm(record)) is not None:
        figures.append(norm)
    return Section(title="Numerics", text=TEXT, tables=[worst(record, keys)], figures=figures)


def parse(key: str) -> Key | None:
    """Take a key apart; None for one that is not about the values of a module."""
    match key.split("/"):
        case ["numerics", kind, module, figure] if kind in KINDS:
            return Key(kind, module, None, figure)
        case ["numerics", kind, module, form, figure] if kind in KINDS:
            return Key(kind, module, form, figure)
    return None


def shares(record: RunRecord, keys: dict[str, Key], kind: str) -> go.Figure | None:
    """Underflow, subnormal and saturated shares one above the other, a line a format."""
    found: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for name, key in keys.items():
        if key.kind == kind and key.format is not None:
            found[key.figure, key.format].append(record.metrics[name])
    formats = list(dict.fromkeys(form for _, form in found))
    if not formats:
        return None
    figure = make_subplots(rows=len(SHARES), shared_xaxes=True, vertical_spacing=0.05)
    for row, share in enumerate(SHARES, start=1):
        for index, form in enumerate(formats):
            steps, values = thinned(mean(found[share, form]))
            index %= len(OKABE_ITO)
            figure.add_scatter(
                x=steps,
                y=values,
                name=plain(form),
                legendgroup=form,
                showlegend=row == 1,
                line={"color": OKABE_ITO[index], "dash": DASHES[index]},
                marker={"color": OKABE_ITO[index], "symbol": SYMBOLS[index]},
                row=row,
                col=1,
            )
        figure.update_yaxes(title=share, tickformat=".3~%", rangemode="tozero", row=row, col=1)
    figure.update_xaxes(title="step", row=len(SHARES), col=1)
    title = f"{KINDS[kind].capitalize()}: if they were stored in ..."
    figure.update_layout(title=title, height=620, legend_y=-0.12)
    return figure


def mean(series: list[Series]) -> Series:
    """The mean of several series at each step at which one of them has a value."""
    sums: dict[int, list[float]] = defaultdict(list)
    for one in series:
        for step, value in zip(one.steps, one.values, strict=True):
            sums[step].append(value)
    steps = sorted(sums)
    return Series(steps, [float(np.mean(sums[step])) for step in steps])


def worst(record: RunRecord, keys: dict[str, Key]) -> Table:
    """The greatest of each figure that was logged, by kind and module, in the training format."""
    rows: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for name, key in keys.items():
        if key.format is None:
            values = [value for value in record.metrics[name].values if not math.isnan(value)]
            rows[key.kind, key.module][key.figure] = max(values, default=math.nan)
    table: list[list[Content]] = [
        [KINDS[kind], module, *(number(found.get(figure), ".3g") for figure in FIGURES)]
        for (kind, module), found in rows.items()
    ]
    title = "The worst in training, by module"
    return Table(title=title, columns=["of", "module", *FIGURES], rows=table)


def gradient_norm(record: RunRecord) -> go.Figure | None:
    """The norm of all gradients before they are clipped."""
    series = record.metrics.get("numerics/gradient_norm")
    if series is None:
        return None
    steps, values = thinned(series)
    figure = go.Figure(go.Scatter(x=steps, y=values))
    figure.update_layout(
        title="Norm of the gradients, before clipping",
        xaxis_title="step",
        yaxis_type="log",
        height=300,
    )
    return figure
