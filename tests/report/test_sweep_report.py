from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bitladder.report import sweep_report
from bitladder.report.content import Section, as_cell
from bitladder.report.page import render
from bitladder.report.sweep_report import sweep_page
from bitladder.runs import RunRecord

Make = Callable[..., RunRecord]


def test_every_run_is_a_row_and_a_page_of_its_own_is_a_link(run: Make, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    records = [run("a #1"), run("b", int8=False), run("c", results=False)]
    records[0].directory.report.touch()
    page = sweep_page(folder, records, tmp_path / "out.html")
    (table,) = page.sections[0].tables
    rows = [[as_cell(content) for content in row] for row in table.rows]
    assert [row[0].text for row in rows] == ["a #1", "b", "c"]
    assert [row[0].href for row in rows] == ["runs/a #1/report.html", None, None]
    assert [row[1].text for row in rows] == ["completed", "completed", "running"]
    by_column = dict(zip(table.columns, rows[0], strict=False))
    assert by_column["accuracy, int8"].value == 0.75
    assert by_column["int8 - float"].value == -0.25
    assert 'href="runs/a%20%231/report.html"' in render(page)


def test_what_did_not_complete_is_listed_with_its_reason(run: Make, tmp_path: Path) -> None:
    records = [run("a"), run("b"), run("c", results=False)]
    records[1].directory.results.write_text('{"schema_version": 0}')
    records[1] = RunRecord.read(records[1].path)
    page = sweep_page(tmp_path / "runs", records, tmp_path / "runs" / "report.html")
    section = page.sections[-1]
    assert section.title == "Not completed"
    (name, state, reason), (*_, progress) = section.tables[0].rows
    assert (name, state) == ("b", "damaged")
    assert "schema_version 0" in str(reason)
    assert progress == "It logged up to step 19, val/accuracy 19."


def test_a_folder_of_completed_runs_lists_no_others(run: Make, tmp_path: Path) -> None:
    page = sweep_page(tmp_path / "runs", [run()], tmp_path / "report.html")
    assert [section.title for section in page.sections] == ["All runs"]


def test_figures_that_compare_runs_stand_between(
    run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def section(records: Sequence[RunRecord]) -> Section:
        return Section(title=f"of {len(records)}")

    monkeypatch.setitem(sweep_report.FIGURES, "x", section)
    page = sweep_page(tmp_path, [run("a"), run("b", results=False)], tmp_path / "r.html")
    assert [section.title for section in page.sections] == ["All runs", "of 2", "Not completed"]
