"""How a sweep goes, on a terminal and in a file."""

import io
import re
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from rich.console import Console

from bitladder.runs.sweep_directory import JobRecord, JobStatus
from bitladder.sweeps import display
from bitladder.sweeps.display import Display


def job(name: str, status: JobStatus = "pending", reason: str | None = None) -> JobRecord:
    attempts = 0 if status == "pending" else 1
    return JobRecord(
        id=name, name=name, overrides=[], status=status, attempts=attempts, reason=reason
    )


def shown(*updates: Sequence[JobRecord]) -> str:
    text = io.StringIO()
    with Display(Console(file=text, width=100), lambda _: None) as view:
        for records in updates:
            view.update(records)
    return text.getvalue()


def test_without_a_terminal_each_change_is_one_line() -> None:
    running, over = [job("a", "running"), job("b")], [job("a", "completed"), job("b", "running")]
    lines = shown(running, running, over, over).splitlines()
    assert lines == ["[0/2] running a", "[1/2] completed a", "[1/2] running b"]


def test_a_failure_says_why_and_its_text_is_no_markup() -> None:
    text = shown([job("x=[bold]", "failed", "NaN in [red]")])
    assert text == "[1/1] failed x=[bold]: NaN in [red]\n"


def test_a_terminal_shows_counts_what_runs_what_is_left_and_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr(display, "time", clock)  # rich has its own
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Display(console, lambda _: "a (accuracy 0.9)") as view:
        view.update([job("a", "running"), job("b", "running"), job("c"), job("d")])
        clock.monotonic = lambda: 160.0
        view.update([job("a", "completed"), job("b", "failed"), job("c", "running"), job("d")])
        with console.capture() as captured:
            console.print(view._view())
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", captured.get())
    for part in ("2 of 4 jobs", "1 running", "1 failed", "0:02:00 left", "c  0:00:00", "a (accur"):
        assert part in text
