"""The rungs side by side: what int8 cost and what it bought."""

import plotly.graph_objects as go

from bitladder.report.content import Cell, Content, Section, Table, number
from bitladder.report.style import INT8_COLOUR, NEUTRAL, plain
from bitladder.runs import Rung, RunRecord
from bitladder.runs.table import human_size

BASE = "float"


def section(record: RunRecord) -> Section | None:
    """Every measured figure of every rung."""
    if not record.rungs:
        return None
    figure = ratios(record.rungs)
    return Section(
        title="The rungs",
        text="Each rung is a compiled file. The float rung is the trained model compiled the same "
        "way (AOTInductor, frozen weights), measured on the same machine, taking turns, so that "
        "ratios compare like with like.",
        tables=[side_by_side(record.rungs)],
        figures=[figure] if figure else [],
    )


def side_by_side(rungs: dict[str, Rung]) -> Table:
    """A row a figure, a column a rung, and what each rung is against float."""
    others = [name for name in rungs if name != BASE and BASE in rungs]
    keys = dict.fromkeys(key for rung in rungs.values() for key in rung.metrics)
    batches = dict.fromkeys(key for rung in rungs.values() for key in rung.latency_ms)
    rows: list[list[Content]] = []
    for key in keys:
        values = {name: rung.metrics.get(key) for name, rung in rungs.items()}
        changes = [difference(values[BASE], values[name]) for name in others]
        rows.append([key, *(number(value, ".4f") for value in values.values()), *changes])
    sizes = {name: float(rung.size_bytes) for name, rung in rungs.items()}
    cells = [Cell(human_size(rung.size_bytes), sizes[name]) for name, rung in rungs.items()]
    rows.append(["size of the file", *cells, *(ratio(sizes[BASE], sizes[n]) for n in others)])
    for key in batches:
        values = {name: rung.latency_ms.get(key) for name, rung in rungs.items()}
        changes = [ratio(values[BASE], values[name]) for name in others]
        label = f"latency, {key.replace('_', ' ')}"
        rows.append([label, *(number(value, ".3g", " ms") for value in values.values()), *changes])
    return Table(
        columns=["figure", *rungs, *(f"{name} against {BASE}" for name in others)],
        rows=rows,
        plain=True,
    )


def ratios(rungs: dict[str, Rung]) -> go.Figure | None:
    """Size and latencies of each other rung as parts of float's, in percent; None without both."""
    base = rungs.get(BASE)
    others = {name: rung for name, rung in rungs.items() if name != BASE}
    if base is None or not others:
        return None
    figure = go.Figure()
    for name, rung in others.items():
        parts = {"size": (base.size_bytes, rung.size_bytes)} | {
            f"latency, {key.replace('_', ' ')}": (base.latency_ms[key], value)
            for key, value in rung.latency_ms.items()
            if key in base.latency_ms
        }
        percent = {key: 100 * after / before for key, (before, after) in parts.items() if before}
        figure.add_bar(
            x=list(percent.values()),
            y=[plain(key) for key in percent],
            name=plain(name),
            orientation="h",
            text=[f"{value:.0f}%" for value in percent.values()],
            marker_color=INT8_COLOUR if len(others) == 1 else None,
        )
    figure.add_vline(x=100, line={"dash": "dash", "color": NEUTRAL}, annotation_text="float")
    figure.update_layout(
        title="What is left of float's size and latency",
        xaxis={"title": "% of float", "rangemode": "tozero"},
        yaxis={"autorange": "reversed"},
        height=260,
    )
    return figure


def difference(before: float | None, after: float | None) -> Cell:
    """How much a metric rose; ``-`` where one of them is missing."""
    return number(None if before is None or after is None else after - before, "+.4f")


def ratio(before: float | None, after: float | None) -> Cell:
    """What is left of a size or a time; ``-`` where one of them is missing."""
    return number(after / before if before and after is not None else None, ".2f", "x")
