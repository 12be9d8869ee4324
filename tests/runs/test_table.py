import io
import math

import pytest
from rich.console import Console

from bitladder.runs import Results, Rung, ladder_table
from bitladder.runs.table import human_size

FLOAT = Rung(
    metrics={"test/accuracy": 0.9812},
    size_bytes=1_234_567,
    latency_ms={"batch_1": 0.3456, "batch_32": 123.4},
)
INT8 = Rung(
    metrics={"test/accuracy": 0.98},
    size_bytes=333_333,
    latency_ms={"batch_1": 0.6912, "batch_32": 40.0},
    artifact="model_int8.pt2",
)


def render(rungs: dict[str, Rung], *, experiment: str = "fashion_mnist") -> str:
    results = Results(
        status="completed",
        experiment=experiment,
        precision="bf16_true",
        quantization="dynamic",
        seed=1,
        rungs=rungs,
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(ladder_table(results))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(text: str, name: str) -> list[str]:
    cells = next(line for line in text.splitlines() if line.strip("│ ").startswith(name))
    return [cell.strip() for cell in cells.strip("│").split("│")]


def test_both_rungs_and_their_ratios_are_shown() -> None:
    text = render({"float": FLOAT, "int8": INT8})
    assert row(text, "float") == ["float", "0.9812", "1.23 MB", "0.346 ms", "123 ms"]
    assert row(text, "int8 ") == ["int8", "0.9800", "333 kB", "0.691 ms", "40.0 ms"]
    assert row(text, "int8 / float")[1:] == ["-0.0012", "0.27x", "2.0x slower", "3.1x faster"]


def test_it_fits_eighty_columns_without_cutting_a_word() -> None:
    text = render({"float": FLOAT, "int8": INT8})
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "fashion_mnist: bf16_true, dynamic, seed 1" in text


def test_the_float_rung_alone_has_no_ratio() -> None:
    text = render({"float": FLOAT})
    assert row(text, "float")[1] == "0.9812"
    assert "/" not in text


def test_what_was_not_measured_shows_as_a_dash() -> None:
    bare = Rung(metrics={}, size_bytes=0, latency_ms={"batch_1": 0.0})
    text = render({"float": bare, "int8": INT8})
    assert row(text, "float") == ["float", "-", "0 B", "0.00 ms", "-"]
    assert row(text, "int8 / float")[1:] == ["-", "-", "-", "-"]


def test_a_metric_that_is_nan_is_shown_as_such() -> None:
    broken = Rung(metrics={"test/accuracy": math.nan}, size_bytes=1, latency_ms={})
    assert row(render({"float": broken}), "float")[1] == "nan"


@pytest.mark.parametrize("latency", [math.nan, math.inf, -1.0])
def test_a_latency_that_no_clock_gives_has_no_ratio(latency: float) -> None:
    odd = Rung(metrics={}, size_bytes=1, latency_ms={"batch_1": latency, "batch_32": latency})
    assert row(render({"float": FLOAT, "int8": odd}), "int8 / float")[3:] == ["-", "-"]


def test_no_name_reaches_the_terminal_as_a_command() -> None:
    text = render({"a\x1b[31mb": FLOAT}, experiment="e\x1b[2J\ud800")
    assert "e\\x1b[2J\\xd800" in text
    assert "a\\x1b[31mb" in text


def test_a_name_is_never_taken_for_markup() -> None:
    assert "[bold]x[/bold]" in render({"float": FLOAT}, experiment="[bold]x[/bold]")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_600, "1 MB"),
        (13_700_000, "13.7 MB"),
        (2_500_000_000, "2.5 GB"),
    ],
)
def test_sizes_are_decimal(size: int, text: str) -> None:
    assert human_size(size) == text
