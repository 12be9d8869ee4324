import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bitladder.cli.main import main
from bitladder.cli.run_page import write_page
from bitladder.cli.schema import Config
from bitladder.runs import Results, RunDirectory
from bitladder.runs.lock import locked


def test_a_run_leaves_a_page_and_the_command_writes_it_anew(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = copied / "report.html"
    page.unlink()  # the training's
    assert main(["report", str(copied)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert page.read_text().startswith("<!doctype html>")


def test_a_folder_of_runs_becomes_one_page_with_a_table_on_the_terminal(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copytree(copied, copied.parent / "[red]broken"))
    (broken / "results.json").write_text('{"schema_version": 0}')
    assert main(["report", str(copied.parent), f"output={tmp_path / 'all.html'}"]) == 0
    printed = capsys.readouterr().out
    assert "2 runs in" in printed
    assert "[red]broken" in printed
    assert "damaged" in printed
    assert printed.splitlines()[-1] == str(tmp_path / "all.html")
    html = (tmp_path / "all.html").read_text()
    assert "schema_version 0" in html
    assert 'href="copied/report.html"' in html


def test_an_unfinished_run_says_so_on_the_terminal(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "results.json").unlink()
    with locked(RunDirectory(copied)):
        assert main(["report", str(copied)]) == 0
    assert "The run is not over yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/nothing"], "nothing is no folder"),
        (["{}/file"], "file is no folder"),
        (["{}"], "is no run and has none in it: write a directory that bitladder train made"),
        (["{}", "{}"], "write one run, or one folder of runs"),
        (["{}", "output="], "write one run, or one folder of runs"),
        (["{}", "outptu=x"], "there is no key outptu; did you mean output?"),
        (["{}", "output={}/missing/x.html"], "there is no folder"),
        (["{}", "output={}"], "is a folder: write a file"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["report", *(text.format(tmp_path) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_report_false_leaves_no_page(config: Callable[..., Config], copied: Path) -> None:
    directory = RunDirectory(copied)
    directory.report.unlink()
    results = Results.read(directory.results)
    write_page(config(report=False), directory, results)
    assert not directory.report.exists()
    write_page(config(), directory, results)
    assert directory.report.is_file()


def test_a_page_that_fails_is_a_line_in_the_log(
    config: Callable[..., Config],
    copied: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(record: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("bitladder.report.write.write_run_report", fails)
    with caplog.at_level(logging.WARNING):
        write_page(config(), RunDirectory(copied), Results.read(copied / "results.json"))
    assert caplog.messages == ["no report.html: ZeroDivisionError: oh no"]
