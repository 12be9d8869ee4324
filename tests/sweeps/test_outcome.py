"""What a sweep measured, as a table."""

import io
import re
from pathlib import Path

from rich.console import Console

from bitladder.runs import Results, Rung
from bitladder.runs.sweep_directory import JobRecord, SweepDirectory
from bitladder.sweeps.outcome import Outcomes


def rung(accuracy: float, size: int, ms: float) -> Rung:
    latency = {"batch_1": ms, "batch_32": ms}
    return Rung(metrics={"test/accuracy": accuracy}, size_bytes=size, latency_ms=latency)


def done(folder: Path, name: str, **rungs: Rung) -> JobRecord:
    (folder / name).mkdir()
    Results(
        status="completed",
        experiment="digits",
        precision="fp32",
        quantization="ptq" if "int8" in rungs else "none",
        seed=1,
        rungs=rungs,
    ).write(folder / name / "results.json")
    return JobRecord(id=name, name=name, overrides=[], status="completed", run=name)


def rows(folder: Path, records: list[JobRecord]) -> list[list[str]]:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(Outcomes(SweepDirectory(folder)).table(records))
    _, *below = re.split(r"─{3,}\s*\n", console.export_text())
    lines = "".join(below).splitlines()
    return [re.split(r" {2,}", line.strip()) for line in lines if line.strip()]


def test_seeds_are_a_row_with_mean_and_spread_and_int8_is_a_ratio(tmp_path: Path) -> None:
    records = [
        done(tmp_path, "a", float=rung(0.90, 100, 2.0), int8=rung(0.80, 25, 1.0)),
        done(tmp_path, "b", float=rung(0.92, 100, 4.0), int8=rung(0.84, 35, 1.0)),
        done(tmp_path, "c", float=rung(0.91, 100, 2.0)),
    ]
    assert rows(tmp_path, records) == [
        ["fp32", "ptq", "2", "0.9100 ±0.0141", "0.8200 ±0.0283", "0.30x", "3.00x", "3.00x"],
        ["fp32", "none", "1", "0.9100", "-", "-", "-", "-"],
    ]


def test_what_is_not_completed_or_cannot_be_read_is_no_row(tmp_path: Path) -> None:
    broken = done(tmp_path, "a", float=rung(0.9, 100, 2.0))
    (tmp_path / "a" / "results.json").write_text('{"status": "comp')
    killed = done(tmp_path, "b", float=rung(0.9, 100, 2.0))
    killed.status = "killed"
    assert rows(tmp_path, [broken, killed]) == []
    assert Outcomes(SweepDirectory(tmp_path)).best([broken, killed]) is None


def test_the_best_is_judged_by_the_rung_it_is_about(tmp_path: Path) -> None:
    records = [
        done(tmp_path, "a", float=rung(0.99, 100, 2.0), int8=rung(0.50, 25, 1.0)),
        done(tmp_path, "b", float=rung(0.90, 100, 2.0)),
    ]
    assert Outcomes(SweepDirectory(tmp_path)).best(records) == "b (accuracy 0.9000)"
