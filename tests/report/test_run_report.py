import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bitladder.report.assemble import sections
from bitladder.report.content import Page, Section
from bitladder.report.page import render
from bitladder.report.run_report import run_page
from bitladder.runs import RunRecord

Make = Callable[..., RunRecord]
FILES = ("config.yaml", "manifest.json", "metrics.csv", "results.json", "quantization.json")


def titles(page: Page) -> list[str]:
    return [section.title for section in page.sections]


def broken(page: Page) -> list[str]:
    return [s.text for s in page.sections if "cannot be shown" in s.text]


def test_a_completed_run_has_every_section_that_it_has_data_for(run: Make) -> None:
    page = run_page(run())
    assert titles(page) == [
        "The rungs",
        "What ran",
        "Learning curves",
        "Layers",
        "Float against int8",
        "The same errors?",
        "Configuration",
    ]
    assert not broken(page)


def test_a_run_without_int8_has_no_section_about_it(run: Make) -> None:
    page = run_page(run(int8=False))
    assert {"Layers", "Float against int8"} & set(titles(page)) == set()
    assert "The rungs" in titles(page)
    assert not broken(page)


@pytest.mark.parametrize("missing", [*FILES, "predictions.npz"])
def test_any_file_may_be_missing(run: Make, missing: str) -> None:
    record = run()
    (record.path / missing).unlink()
    page = run_page(RunRecord.read(record.path))
    assert not broken(page)
    render(page)


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json", "quantization.json"])
@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"layers": 3, "choices": 1, "precision": [], "hardware": "x", "packages": 1}',
        '{"layers": [{}, 1, {"quantized": true, "weight": [], "input": {"bits": "x"}}]}',
        '{"layers": [{"quantized": true, "sqnr_db": "NaN", "local_sqnr_db": "Infinity"}]}',
        '{"command": [[]], "git": {"commit": {}}, "hardware": {"cuda": [1]}, "seed": "<b>"}',
    ],
)
def test_files_may_hold_other_values_than_a_run_writes(run: Make, name: str, content: str) -> None:
    record = run()
    (record.path / name).write_text(content)
    page = run_page(RunRecord.read(record.path))
    assert not broken(page)
    render(page)


def test_a_damaged_part_is_said_in_its_place(run: Make) -> None:
    record = run()
    record.directory.predictions.write_bytes(b"nothing")
    page = run_page(RunRecord.read(record.path))
    assert "Float against int8" in titles(page)
    texts = broken(page)
    assert len(texts) == 2  # what float and int8 answered, and their errors
    assert all("predictions.npz" in text for text in texts)


def test_a_section_that_fails_does_not_take_the_others(tmp_path: Path) -> None:
    def fails(record: RunRecord) -> Section:
        raise ZeroDivisionError("oh")

    record = RunRecord.read(tmp_path)
    first, second = sections({"a": fails, "b": lambda _: Section(title="b")}, record)
    assert first.text == "This part cannot be shown (ZeroDivisionError: oh)."
    assert second.title == "b"


def test_an_empty_directory_has_a_page(tmp_path: Path) -> None:
    page = run_page(RunRecord.read(tmp_path))
    assert titles(page) == ["What ran"]
    render(page)


def test_a_report_does_without_torch() -> None:
    program = "import sys, bitladder.report.run_report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
