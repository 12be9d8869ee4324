"""What was measured again beside what was recorded, as a table on the terminal."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from bitladder.runs.results import Rung
from bitladder.runs.table import FIGURES, MISSING, compared, figures, values


def comparison_table(
    title: str,
    measured: Mapping[str, Rung],
    recorded: Mapping[str, Rung],
    sizes: Mapping[str, int],
) -> Table:
    """Return one row a figure of every rung, with its difference. The table fits 80 columns.

    Args:
        title: What was measured.
        measured: The rungs as they are now.
        recorded: The rungs as ``results.json`` has them.
        sizes: Bytes of the artifacts that are there and did not run, by rung.
    """
    # Text, because names come from a file and may look like markup.
    table = Table(title=Text(title), title_justify="left")
    for column in ("rung", "figure"):
        table.add_column(column)
    for column in ("now", "recorded", "difference"):
        table.add_column(column, justify="right")
    for name in dict.fromkeys([*recorded, *measured]):
        now, before = measured.get(name), recorded.get(name)
        if now is None and name in sizes:
            now = Rung(metrics={}, size_bytes=sizes[name], latency_ms={})
        rows = zip(
            FIGURES,
            values(now) if now else [MISSING] * len(FIGURES),
            values(before) if before else [MISSING] * len(FIGURES),
            compared(before, now) if before and now else [MISSING] * len(FIGURES),
            strict=True,
        )
        for index, (figure, *cells) in enumerate(rows):
            table.add_row(Text("" if index else name), figure, *cells)
        table.add_section()
    return table


def accuracy_change(measured: Rung, recorded: Rung) -> float | None:
    """How much the accuracy is above the recorded one; ``None`` where one of them is missing."""
    now, before = figures(measured)[0], figures(recorded)[0]
    return None if now is None or before is None else now - before
