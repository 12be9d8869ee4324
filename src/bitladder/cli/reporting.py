"""From what the user asked of a report to the page, and a table on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bitladder.cli.suggest import hint
from bitladder.errors import UserError
from bitladder.foreign_text import printable
from bitladder.report.summary import run_summary
from bitladder.report.terminal import runs_table
from bitladder.report.write import write_run_report, write_sweep_report
from bitladder.runs import RunRecord, ladder_table
from bitladder.runs.finding import find_runs, is_run

OUTPUT = "output="


def report(arguments: Sequence[str]) -> int:
    """Write the page about a run or a folder of runs.

    Args:
        arguments: A path, and ``output=FILE`` if it is to lie elsewhere.

    Returns:
        0. The last line printed is the file that was written.

    Raises:
        UserError: If there is no run, or an argument is wrong; nothing is written then.
        RunError: If the page cannot be written.
    """
    path, output = _read(arguments)
    console = Console(soft_wrap=True)
    if is_run(path):
        record = RunRecord.read(path)
        _tell_damage(record, console)
        written = write_run_report(record, output)
        if record.results is not None and record.rungs:
            console.print(ladder_table(record.results))
        else:
            console.print(printable(run_summary(record)), highlight=False, markup=False)
    else:
        records = [RunRecord.read(run) for run in find_runs(path)]
        if not records:
            raise UserError(
                f"{path} is no run and has none in it: write a directory that bitladder train made,"
                " or the folder that it lies in"
            )
        for record in records:
            _tell_damage(record, console)
        written = write_sweep_report(path, records, output)
        console.print(runs_table(path, records))
    console.print(str(written), highlight=False, markup=False)
    return 0


def _tell_damage(record: RunRecord, console: Console) -> None:
    """A size in a table is that of a file which may not be there any more."""
    damage = record.results and record.results.damage(record.path)
    if damage:
        console.print(printable(f"{record.path}: {damage}"), highlight=False, markup=False)


def _read(arguments: Sequence[str]) -> tuple[Path, Path | None]:
    """The path and the output among the arguments."""
    for text in arguments:
        key, equals, _ = text.partition("=")
        if equals and key != "output" and not Path(text).exists():
            raise UserError(f"there is no key {key}{hint(key, ['output'])}")
    outputs = [text.removeprefix(OUTPUT) for text in arguments if text.startswith(OUTPUT)]
    paths = [text for text in arguments if not text.startswith(OUTPUT)]
    if len(paths) != 1 or len(outputs) > 1 or "" in outputs:
        raise UserError("write one run, or one folder of runs: bitladder report PATH [output=FILE]")
    path = Path(paths[0])
    if not path.is_dir():
        raise UserError(f"{path} is no folder: write a run directory, or a folder of runs")
    output = Path(outputs[0]) if outputs else None
    if output is not None and not output.parent.is_dir():
        raise UserError(f"{OUTPUT}{output}: there is no folder {output.parent}")
    if output is not None and output.is_dir():
        raise UserError(f"{OUTPUT}{output} is a folder: write a file, {output / 'report.html'}")
    return path, output
