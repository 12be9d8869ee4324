"""The ladder as a table on the terminal."""

import math
from collections.abc import Callable

from rich.table import Table
from rich.text import Text

from bitladder.foreign_text import printable
from bitladder.runs.results import Results, Rung

MISSING = "-"

FIGURES = ("accuracy", "size", "latency, batch 1", "latency, batch 32")
"""What :func:`values` and :func:`compared` give, in this order."""


def ladder_table(results: Results) -> Table:
    """Return one row a rung, and under each reduced rung what it cost and bought against float.

    Accuracy is compared by difference, size by ratio, latency by speed-up. What was not measured
    shows as `-`. The table fits 80 columns.
    """
    title = (
        f"{results.experiment or 'run'}: "
        f"{results.precision}, {results.quantization}, seed {results.seed}"
    )
    # Text, because names come from a file and may look like markup.
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("rung")
    for column in FIGURES:
        table.add_column(column, justify="right")
    for name, rung in results.rungs.items():
        table.add_row(Text(printable(name)), *values(rung))
    base = results.rungs.get("float")
    reduced = {name: rung for name, rung in results.rungs.items() if name != "float"}
    if base and reduced:
        table.add_section()
        for name, rung in reduced.items():
            table.add_row(Text(printable(f"{name} / float")), *compared(base, rung), style="bold")
    return table


def human_size(size_bytes: int) -> str:
    """Return a size in decimal units: 532 B, 12.3 kB, 4.56 MB."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def values(rung: Rung) -> list[str]:
    """Return the figures of a rung as text."""
    accuracy, batch_1, batch_32 = figures(rung)
    return [
        MISSING if accuracy is None else f"{accuracy:.4f}",
        human_size(rung.size_bytes),
        *(MISSING if ms is None else f"{_significant(ms)} ms" for ms in (batch_1, batch_32)),
    ]


def compared(base: Rung, rung: Rung) -> list[str]:
    """Return what a rung's figures are against another's, as text."""
    accuracies, *latencies = zip(figures(base), figures(rung), strict=True)
    return [
        _compare(*accuracies, lambda before, after: f"{after - before:+.4f}"),
        _compare(base.size_bytes, rung.size_bytes, _size_ratio),
        *(_compare(*latency, _speed_up) for latency in latencies),
    ]


def figures(rung: Rung) -> tuple[float | None, float | None, float | None]:
    """Return accuracy and the latencies of both batches, where they were measured."""
    latency = rung.latency_ms
    return rung.metrics.get("test/accuracy"), latency.get("batch_1"), latency.get("batch_32")


def _compare(before: float | None, after: float | None, text: Callable[[float, float], str]) -> str:
    return MISSING if before is None or after is None else text(before, after)


def _size_ratio(before: float, after: float) -> str:
    return f"{after / before:.2f}x" if before > 0 else MISSING


def _speed_up(before: float, after: float) -> str:
    if not (0 < before < math.inf and 0 < after < math.inf):
        return MISSING
    faster = before / after
    return f"{faster:.1f}x faster" if faster >= 1 else f"{1 / faster:.1f}x slower"


def _significant(value: float) -> str:
    """Three significant digits: 0.123, 12.3, 123, 1234."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"
