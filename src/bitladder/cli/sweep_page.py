"""The page that a sweep leaves about its runs."""

from collections.abc import Sequence

from bitladder.runs import RunRecord
from bitladder.runs.sweep_directory import JobRecord, SweepDirectory


def write_sweep_page(directory: SweepDirectory, records: Sequence[JobRecord]) -> str | None:
    """Write ``report.html`` about the runs that count, unless the jobs have ``report=false``.

    What a killed or repeated job left half done is not among them. The jobs have their results: a
    page that fails must not fail them.

    Returns:
        Why there is no page, in one line; None if it was written or not wanted.
    """
    plan = directory.read_plan()
    runs = [directory.path / record.run for record in records if record.run is not None]
    if not runs or (plan is not None and plan.config.get("report") is False):
        return None
    try:
        from bitladder.report.write import write_sweep_report

        found = [RunRecord.read(run) for run in runs]
        write_sweep_report(directory.path, found, directory.report)
    except Exception as error:  # any, see above
        return " ".join(f"no report.html: {type(error).__name__}: {error}".split())
    return None
