"""The page that a completed run, or a sweep, leaves about itself."""

import logging

from rich.console import Console

from bitladder.cli.schema import Config
from bitladder.runs import Results, RunDirectory, RunRecord
from bitladder.runs.finding import find_runs
from bitladder.runs.sweep_directory import SweepDirectory


def write_page(config: Config, directory: RunDirectory, results: Results) -> None:
    """Write ``report.html`` unless ``report=false``; what keeps it from being written is logged.

    The run went well: a page that fails must not fail it.

    Args:
        config: The run's.
        directory: The run's.
        results: Which it is about to write.
    """
    if not config.report:
        return
    try:
        from bitladder.report.write import write_run_report

        write_run_report(RunRecord.read(directory.path).completed_with(results))
    except Exception as error:  # any, see above
        logging.getLogger(__name__).warning("no report.html: %s", _line(error))


def write_sweep_page(directory: SweepDirectory, console: Console) -> None:
    """Write a sweep's ``report.html``, and say where it is or what keeps it from being written."""
    try:
        from bitladder.report.write import write_sweep_report

        records = [RunRecord.read(path) for path in find_runs(directory.path)]
        page = write_sweep_report(directory.path, records)
    except Exception as error:  # any: the runs have their results
        console.print(f"no report.html: {_line(error)}", markup=False, highlight=False)
    else:
        console.print(f"report: {page}", highlight=False)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
