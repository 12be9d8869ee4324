"""A report's file, from directory to page."""

from collections.abc import Sequence
from pathlib import Path

from bitladder.report.page import render
from bitladder.report.run_report import run_page
from bitladder.report.sweep_report import sweep_page
from bitladder.runs import RunRecord, write_atomic


def write_run_report(record: RunRecord, output: Path | None = None) -> Path:
    """Write the page about a run.

    Args:
        record: The run.
        output: The file; ``report.html`` in the run directory if None.

    Returns:
        The file.

    Raises:
        RunError: It cannot be written. There is none, or the old one, then.
    """
    output = output or record.directory.report
    write_atomic(output, render(run_page(record)))
    return output


def write_sweep_report(
    folder: Path, records: Sequence[RunRecord], output: Path | None = None
) -> Path:
    """Write the page about the runs in a folder; see :func:`write_run_report`."""
    output = output or folder / "report.html"
    write_atomic(output, render(sweep_page(folder, records, output)))
    return output
