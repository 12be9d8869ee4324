"""The jobs of a sweep that are not done: what became of each, and why."""

from collections.abc import Sequence
from pathlib import Path

from bitladder.errors import UserError
from bitladder.report.content import Section, Table
from bitladder.runs import RunRecord
from bitladder.runs.sweep_directory import JobRecord, SweepDirectory


def section(records: Sequence[JobRecord], folder: Path) -> Section | None:
    """A row a job that is not completed; None of a folder that is no sweep's, or if all are."""
    left = [record for record in records if record.status != "completed"]
    if not left:
        return None
    directory = SweepDirectory(folder)
    rows = [
        [
            record.name,
            record.status,
            record.attempts,
            record.reason,
            str(directory.log_file(record.id).relative_to(folder)) if record.attempts else None,
        ]
        for record in left
    ]
    done = len(records) - len(left)
    return Section(
        title="Jobs",
        text=f"{done} of {len(records)} jobs are completed. The command that started the sweep "
        "goes on with the others.",
        tables=[Table(columns=["job", "status", "attempts", "why", "log"], rows=rows)],
    )


def read_jobs(folder: Path) -> list[JobRecord]:
    """A sweep's jobs; none of a folder that is no sweep's, or of one whose files are damaged."""
    try:
        return SweepDirectory(folder).records()
    except UserError:
        return []


def that_count(records: Sequence[RunRecord], jobs: Sequence[JobRecord]) -> list[RunRecord]:
    """The runs without those that a job left behind when it was done again."""
    if not jobs:
        return list(records)
    counting = {job.run for job in jobs}
    return [record for record in records if record.name in counting]
