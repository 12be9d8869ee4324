import io
from dataclasses import replace

from rich.console import Console

from bitladder.runs import Rung, comparison_table
from bitladder.runs.comparison import accuracy_change

BEFORE = Rung(
    metrics={"test/accuracy": 0.9812},
    size_bytes=1_234_567,
    latency_ms={"batch_1": 0.3456, "batch_32": 123.4},
)
NOW = replace(
    BEFORE, metrics={"test/accuracy": 0.98}, latency_ms={"batch_1": 0.6912, "batch_32": 61.7}
)


def rows(now: dict[str, Rung], before: dict[str, Rung], **sizes: int) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison_table("[b]a run[/b]", now, before, sizes))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.startswith("[b]a run[/b]")
    assert max(map(len, text.splitlines())) <= 80
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_every_figure_is_beside_the_recorded_one() -> None:
    assert rows({"float": NOW}, {"float": BEFORE}) == [
        ["float", "accuracy", "0.9800", "0.9812", "-0.0012"],
        ["", "size", "1.23 MB", "1.23 MB", "1.00x"],
        ["", "latency, batch 1", "0.691 ms", "0.346 ms", "2.0x slower"],
        ["", "latency, batch 32", "61.7 ms", "123 ms", "2.0x faster"],
    ]


def test_what_did_not_run_or_was_not_recorded_shows_as_a_dash() -> None:
    assert [row[2:] for row in rows({"float": NOW}, {})] == [
        ["0.9800", "-", "-"],
        ["1.23 MB", "-", "-"],
        ["0.691 ms", "-", "-"],
        ["61.7 ms", "-", "-"],
    ]
    assert [row[2:] for row in rows({}, {"int8": BEFORE}, int8=1000)][:2] == [
        ["-", "0.9812", "-"],
        ["1 kB", "1.23 MB", "0.00x"],
    ]


def test_the_change_of_accuracy_is_now_less_before() -> None:
    change = accuracy_change(NOW, BEFORE)
    assert change is not None
    assert abs(change + 0.0012) < 1e-12
    assert accuracy_change(NOW, replace(BEFORE, metrics={})) is None
