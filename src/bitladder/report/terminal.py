"""A folder of runs as a table on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from bitladder.foreign_text import printable
from bitladder.report.figures.all_runs import run_name
from bitladder.runs import RunRecord
from bitladder.runs.table import MISSING, compared, values


def runs_table(folder: Path, records: Sequence[RunRecord]) -> Table:
    """Return one row a run: state, the int8 rung's accuracy, and what else it is against float.

    A run that has no int8 rung shows its float rung's accuracy. The table fits 80 columns.
    """
    # Text, because names come from a file and may look like markup.
    runs = "1 run" if len(records) == 1 else f"{len(records)} runs"
    title = Text(printable(f"{runs} in {folder}: int8 against float"))
    table = Table(title=title, title_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("state")
    for column in ("accuracy", "size", "batch 32"):
        table.add_column(column, justify="right")
    for record in records:
        base, rung = record.rungs.get("float"), record.rungs.get("int8")
        shown = rung or base
        accuracy = values(shown)[0] if shown else MISSING
        _, size, _, batch_32 = compared(base, rung) if base and rung else [MISSING] * 4
        table.add_row(
            Text(printable(run_name(record, folder))), record.state, accuracy, size, batch_32
        )
    return table
