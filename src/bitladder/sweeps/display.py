"""How a sweep goes, on the terminal."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bitladder.runs.sweep_directory import JobRecord

MISSING = "-"


class Display:
    """One view of a whole sweep: done, running, failed, time left, the best so far.

    A terminal shows it in place; anywhere else every job that starts or ends is a line.

    Args:
        console: Where to show it.
        best: Says which finished job is best, in a few words; None if that cannot be said yet.
    """

    def __init__(self, console: Console, best: Callable[[Sequence[JobRecord]], str | None]) -> None:
        self._console = console
        self._best = best
        self._records: list[JobRecord] = []
        self._shown: dict[str, tuple[str, int]] = {}
        self._began: dict[str, float] = {}
        self._seconds: list[float] = []
        self._live = Live(
            console=console, get_renderable=self._view, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self, records: Sequence[JobRecord]) -> None:
        """Show how far all jobs are."""
        known = {record.id for record in records}
        self._records = [r for r in self._records if r.id not in known] + list(records)
        for record in records:
            state = (record.status, record.attempts)
            if self._shown.get(record.id, ("pending", record.attempts)) != state:
                self._note(record)
            self._shown[record.id] = state

    def _note(self, record: JobRecord) -> None:
        now = time.monotonic()
        if record.status == "running":
            self._began[record.id] = now
        elif record.id in self._began:
            self._seconds.append(now - self._began.pop(record.id))
        if record.status in ("failed", "killed", "pruned") or not self._console.is_terminal:
            reason = f": {record.reason}" if record.reason else ""
            again = f" (attempt {record.attempts})" if record.attempts > 1 else ""
            line = f"{self._counted()} {record.status} {record.name}{again}{reason}"
            self._console.print(Text(line), soft_wrap=True)

    def _counted(self) -> str:
        over = sum(r.status in ("completed", "pruned", "failed", "killed") for r in self._records)
        return f"[{over}/{len(self._records)}]"

    def _view(self) -> RenderableType:
        count = dict.fromkeys(("completed", "pruned", "running", "failed", "killed", "pending"), 0)
        for record in self._records:
            count[record.status] += 1
        total = len(self._records)
        over = total - count["running"] - count["pending"]
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            ProgressBar(total=max(total, 1), completed=over, width=30),
            f"{over} of {total} jobs",
            f"{count['running']} running",
            Text(f"{count['failed'] + count['killed']} failed"),
            f"{self._left(count['running'], count['pending'])} left",
        )
        lines: list[RenderableType] = [grid]
        now = time.monotonic()
        for record in self._records:
            if record.status == "running" and record.id in self._began:
                spent = timedelta(seconds=int(now - self._began[record.id]))
                lines.append(Text(f"  {record.name}  {spent}", style="dim"))
        if best := self._best(self._records):
            lines.append(Text(f"  best so far: {best}"))
        return Group(*lines)

    def _left(self, running: int, pending: int) -> str:
        """Time left, from how long the finished jobs took."""
        if not self._seconds:
            return MISSING
        mean = sum(self._seconds) / len(self._seconds)
        now = time.monotonic()
        rest = sum(max(mean - (now - began), 0.0) for began in self._began.values())
        return str(timedelta(seconds=int((rest + mean * pending) / max(running, 1))))
