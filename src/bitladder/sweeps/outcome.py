"""What a sweep's completed jobs measured."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from bitladder.errors import UserError
from bitladder.runs import Results, Rung
from bitladder.runs.sweep_directory import JobRecord, SweepDirectory

METRIC = "test/accuracy"
MISSING = "-"


@dataclass
class Outcomes:
    """Reads the results of completed jobs, each once.

    Attributes:
        directory: The sweep's.
    """

    directory: SweepDirectory

    def __post_init__(self) -> None:
        self._read: dict[str, Results] = {}

    def of(self, record: JobRecord) -> Results | None:
        """A job's results; None unless it is completed and they can be read."""
        if record.status != "completed" or record.run is None:
            return None
        if record.run not in self._read:
            try:
                path = self.directory.path / record.run / "results.json"
                self._read[record.run] = Results.read(path)
            except UserError:
                return None
        return self._read[record.run]

    def best(self, records: Sequence[JobRecord]) -> str | None:
        """The completed job of the greatest accuracy, of its last rung, in a few words."""
        scores = {}
        for record in records:
            results = self.of(record)
            if results and (rung := final(results)) and METRIC in rung.metrics:
                scores[record.name] = rung.metrics[METRIC]
        if not scores:
            return None
        name = max(scores, key=scores.__getitem__)
        return f"{name} ({METRIC.rpartition('/')[2]} {scores[name]:.4f})"

    def table(self, records: Sequence[JobRecord]) -> Table:
        """A row for each precision and quantization: means over the jobs, with their spread."""
        groups: dict[tuple[str, str], list[Results]] = defaultdict(list)
        for record in records:
            if (results := self.of(record)) is not None:
                groups[results.precision, results.quantization].append(results)
        table = Table(title="accuracy, and int8 against float", title_justify="left", box=SIMPLE)
        for column in ("precision", "int8 by"):
            table.add_column(column, no_wrap=True)
        for column in ("runs", "float", "int8", "size", "batch 1", "batch 32"):
            table.add_column(column, justify="right", no_wrap=True)
        for (precision, quantization), results in groups.items():
            table.add_row(Text(precision), Text(quantization), str(len(results)), *_row(results))
        return table


def final(results: Results) -> Rung | None:
    """The rung that the run is about: int8 where there is one."""
    return results.rungs.get("int8") or results.rungs.get("float")


def _row(results: Sequence[Results]) -> list[str]:
    """Accuracies as mean and spread; size and latency of int8 against float, as ratios."""
    floats = [x.rungs["float"] for x in results if "float" in x.rungs]
    lasts = [x.rungs["int8"] for x in results if "int8" in x.rungs]
    pairs = [(x.rungs["float"], x.rungs["int8"]) for x in results if "int8" in x.rungs]
    return [
        _spread([rung.metrics[METRIC] for rung in floats if METRIC in rung.metrics]),
        _spread([rung.metrics[METRIC] for rung in lasts if METRIC in rung.metrics]),
        _ratio([b.size_bytes / a.size_bytes for a, b in pairs if a.size_bytes]),
        *(
            _ratio([a.latency_ms[k] / b.latency_ms[k] for a, b in pairs if b.latency_ms.get(k)])
            for k in ("batch_1", "batch_32")
        ),
    ]


def _spread(values: Sequence[float]) -> str:
    values = [x for x in values if not math.isnan(x)]
    if not values:
        return MISSING
    spread = f" ±{stdev(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{spread}"


def _ratio(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}x" if values else MISSING
