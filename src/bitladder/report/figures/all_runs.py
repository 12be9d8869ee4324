"""Every run of a folder in one table, and those that did not come to their end."""

import os
from collections.abc import Sequence
from pathlib import Path

from bitladder.report.content import Cell, Content, Section, Table, number
from bitladder.report.figures.rungs import difference, ratio
from bitladder.report.summary import progress
from bitladder.runs import Rung, RunRecord
from bitladder.runs.table import human_size

COLUMNS = [
    *("run", "state", "experiment", "model", "precision", "quantization", "seed"),
    *("accuracy, float", "accuracy, int8", "int8 - float"),
    *("size, float", "size, int8", "int8 / float"),
    *("batch 1, float", "batch 1, int8", "int8 / float"),
    *("batch 32, float", "batch 32, int8", "int8 / float"),
]


def section(records: Sequence[RunRecord], *, folder: Path, output: Path) -> Section:
    """What each run was and came to; a run that has a page of its own is a link to it."""
    rows = [_row(record, folder, output) for record in records]
    return Section(
        title="All runs",
        text="Click a heading to sort. Accuracy is that on the test split, size the file's, and "
        "batch 1 and 32 the time of a call. Latencies of runs that were measured at "
        "different times, or on different machines, are less alike than those of one run.",
        tables=[Table(columns=COLUMNS, rows=rows)],
    )


def not_completed(records: Sequence[RunRecord], *, folder: Path) -> Section | None:
    """What failed and why, what runs, and what cannot be read."""
    rows = [
        [run_name(record, folder), record.state, record.reason or progress(record)]
        for record in records
        if record.state != "completed" or record.problem
    ]
    if not rows:
        return None
    table = Table(columns=["run", "state", "why"], rows=rows)
    return Section(title="Not completed", tables=[table])


def run_name(record: RunRecord, folder: Path) -> str:
    """A run's place below the folder."""
    return os.path.relpath(record.path, folder)


def _row(record: RunRecord, folder: Path, output: Path) -> list[Content]:
    page = record.directory.report
    href = os.path.relpath(page, output.parent) if page.is_file() else None
    choices = record.config.get("choices")
    model = choices.get("model") if isinstance(choices, dict) else None
    before, after = record.rungs.get("float"), record.rungs.get("int8")
    return [
        Cell(run_name(record, folder), href=href),
        record.state,
        record.experiment,
        str(model) if model else None,
        record.precision_name,
        record.quantization_name,
        record.seed,
        *_three(_accuracy(before), _accuracy(after)),
        _size(before),
        _size(after),
        ratio(before and before.size_bytes, after and after.size_bytes),
        *_latencies(before, after, "batch_1"),
        *_latencies(before, after, "batch_32"),
    ]


def _three(before: float | None, after: float | None) -> list[Cell]:
    return [number(before, ".4f"), number(after, ".4f"), difference(before, after)]


def _latencies(before: Rung | None, after: Rung | None, key: str) -> list[Cell]:
    times = [rung.latency_ms.get(key) if rung else None for rung in (before, after)]
    return [*(number(time, ".3g", " ms") for time in times), ratio(*times)]


def _accuracy(rung: Rung | None) -> float | None:
    return rung.metrics.get("test/accuracy") if rung else None


def _size(rung: Rung | None) -> Cell:
    return Cell(human_size(rung.size_bytes), float(rung.size_bytes)) if rung else Cell("-")
