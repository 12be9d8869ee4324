"""metrics.csv: whole at every moment, and continued by the run that goes on."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from bitladder.errors import UserError
from bitladder.runs import write_atomic

LONGEST_LINE = 2**20
"""Characters of a row, with a thousand metrics."""


class CSVLogger(LightningCSVLogger):
    """Lightning's ``CSVLogger``, whose file a kill never halves and a resumed run continues.

    Lightning's own deletes the file of the run before, and rewrites it in place whenever a new
    metric appears. Arguments and format are the same.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer, made at first use."""
        if self._experiment is None:
            self._experiment = _Writer(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        """How many rows are in the file, with what was logged so far, and their hash.

        They are on the disk then: a checkpoint that counts them outlives a power cut.
        """
        self.save()
        if not isinstance(self._experiment, _Writer):
            return {"rows": 0}
        self._experiment.sync()
        return {"rows": self._experiment.rows, "sha256": self._experiment.content.hexdigest()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the first rows of the file that is there, and go on after them.

        Raises:
            UserError: If they are not those that were logged.
        """
        experiment = self.experiment
        if isinstance(experiment, _Writer):  # the other ranks write nothing
            experiment.go_on_after(state_dict["rows"], state_dict.get("sha256"))


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a file that may be somebody else's, and gigabytes without a line's end.

    Raises:
        csv.Error: If one is longer than any row.
    """
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise csv.Error("a line is too long")
        yield line


class _Writer(ExperimentWriter):
    """Appends rows; a row with a new key writes the whole file anew, in one step."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.path = Path(self.metrics_file_path)
        self.rows = 0
        self.content = hashlib.sha256()

    def save(self) -> None:
        """Bring the rows that were logged to the file."""
        if not self.metrics:
            return
        new_keys = self._record_new_keys()
        if new_keys or not self.path.exists():
            self._rewrite([*(self._read() if self.rows else []), *self.metrics])
        else:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.metrics_keys).writerows(self.metrics)
        self._count(self.metrics)
        self.metrics = []

    def sync(self) -> None:
        """Bring the file to the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def go_on_after(self, rows: int, sha256: str | None) -> None:
        """Drop what a run wrote after its checkpoint. A file that is gone stays gone.

        Raises:
            UserError: If the rows before it are not those that were written.
        """
        try:
            kept = self._read(rows)
            self._count(kept)
        except (UnicodeDecodeError, csv.Error):
            kept = []  # and nothing of what was counted is it
        known = sha256 in (None, self.content.hexdigest())
        if self.path.exists() and not known:
            raise UserError(
                f"{self.path} is not what the run wrote before its checkpoint: it is damaged or was"
                " edited; remove it to go on with a new one"
            )
        self.metrics_keys = sorted({key for row in kept for key, value in row.items() if value})
        if kept:
            self._rewrite(kept)

    def _count(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to the hash of the content, which no later column changes."""
        self.rows += len(rows)
        for row in rows:
            cells = {key: str(value) for key, value in row.items() if value not in (None, "")}
            self.content.update(json.dumps(cells, sort_keys=True).encode())

    def _read(self, rows: int | None = None) -> list[dict[str, Any]]:
        """The first rows, or all."""
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            read = islice(csv.DictReader(_lines(file)), rows)
            return [{k: v for k, v in row.items() if k is not None} for row in read]

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.metrics_keys, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path, text.getvalue())

    def _check_log_dir_exists(self) -> None:
        """The file of the run before is not deleted, but continued or replaced."""
