from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bitladder.report.terminal import runs_table
from bitladder.runs import RunRecord

Make = Callable[..., RunRecord]


def test_every_run_is_a_row_in_eighty_columns(run: Make, tmp_path: Path) -> None:
    records = [run("a"), run("b", int8=False), run("[bold]c", results=False)]
    console = Console(width=80, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    with console.file:
        console.print(runs_table(tmp_path / "runs", records))
        lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    a, b, c = ([cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line)
    assert a == ["a", "completed", "0.7500", "0.25x", "2.0x faster"]
    assert b == ["b", "completed", "1.0000", "-", "-"]
    assert c == ["[bold]c", "running", "-", "-", "-"]
