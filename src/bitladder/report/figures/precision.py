"""How training computed: the loss scale, skipped steps, and what ran in fp8."""

import plotly.graph_objects as go

from bitladder.report.content import Section, Table
from bitladder.report.figures.curves import thinned
from bitladder.report.style import plain
from bitladder.runs import RunRecord, Series
from bitladder.runs.reading import lookup, real

SCALE = ("precision/loss_scale", "numerics/loss_scale")
SKIPPED = ("precision/skipped_steps", "numerics/skipped_steps")


def section(record: RunRecord) -> Section | None:
    """Loss scale and skipped steps of fp16, the linears of fp8; None of other precisions."""
    figures = [figure for figure in (loss_scale(record), skipped_steps(record)) if figure]
    linears = fp8_linears(record)
    if not figures and linears is None:
        return None
    return Section(
        title="Precision in training",
        text=_sentence(record),
        figures=figures,
        tables=[linears] if linears else [],
    )


def loss_scale(record: RunRecord) -> go.Figure | None:
    """What the loss was multiplied with, step by step."""
    return _steps(record, SCALE, "Loss scale", log=True)


def skipped_steps(record: RunRecord) -> go.Figure | None:
    """How many optimizer steps were left out so far because a gradient overflowed."""
    return _steps(record, SKIPPED, "Skipped steps, so far", log=False)


def fp8_linears(record: RunRecord) -> Table | None:
    """Which linears were computed in fp8, and why the others were not."""
    linears = lookup(record.precision, "linears")
    if not isinstance(linears, list):
        return None
    columns = ["linear", "inputs", "outputs", "in fp8", "why not", "bf16 ms", "fp8 ms"]
    rows = [
        [
            str(lookup(linear, "name")),
            real(lookup(linear, "in_features")),
            real(lookup(linear, "out_features")),
            bool(lookup(linear, "executed")),
            str(lookup(linear, "reason") or "-"),
            real(lookup(linear, "bf16_ms")),
            real(lookup(linear, "fp8_ms")),
        ]
        for linear in linears
    ]
    return Table(title="Linears in fp8", columns=columns, rows=rows)


def _steps(record: RunRecord, keys: tuple[str, ...], title: str, *, log: bool) -> go.Figure | None:
    series = next((record.metrics[key] for key in keys if key in record.metrics), Series())
    if len(series) < 2:
        return None
    steps, values = thinned(series)
    figure = go.Figure(go.Scatter(x=steps, y=values, name=plain(title), line_shape="hv"))
    figure.update_layout(
        title=title,
        xaxis_title="step",
        yaxis={"type": "log", "dtick": 1} if log else {"rangemode": "tozero"},
        height=280,
    )
    return figure


def _sentence(record: RunRecord) -> str:
    effective = record.results.effective_precision if record.results else {}
    parts = []
    if (skipped := real(effective.get("skipped_steps"))) is not None:
        parts.append(f"{skipped:.0f} optimizer steps were skipped because a gradient overflowed.")
    if (scale := real(effective.get("loss_scale"))) is not None:
        parts.append(f"The loss scale was {scale:g} at the end.")
    if isinstance(summary := lookup(record.precision, "summary"), str):
        parts.append(f"{summary}.")
    return " ".join(parts)
