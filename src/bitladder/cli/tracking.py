"""What a run tells its loggers beside the metrics of its training."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger

from bitladder.cli.guard import GuardedLogger
from bitladder.cli.logs import stderr_in_log
from bitladder.cli.schema import Config
from bitladder.cli.wandb_run import GuardedWandb
from bitladder.runs import Results, RunDirectory, RunRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from bitladder.report.content import Page


@contextmanager
def closed_at_end(loggers: Sequence[Logger]) -> Iterator[None]:
    """End the records when the block does, as failed if it raises."""
    status = "failed"
    try:
        yield
        status = "success"
    finally:
        for logger in _guarded(loggers):
            logger.close(status)


def wandb_records(loggers: Sequence[Logger]) -> dict[str, dict[str, Any]]:
    """For the manifest: how wandb was asked for and how it runs, by the logger's place."""
    return {logger.label: logger.record() for logger in loggers if isinstance(logger, GuardedWandb)}


def notes(loggers: Sequence[Logger]) -> list[str]:
    """What the user must be told about the loggers before training starts, a line each."""
    return [x.note for x in loggers if isinstance(x, GuardedWandb) and x.note is not None]


def log_config(loggers: Sequence[Logger], config: Config) -> None:
    """Give the loggers the whole configuration; the CSV has config.yaml beside it already."""
    with stderr_in_log():
        for logger in _guarded(loggers):
            logger.log_config(config)


def log_files(loggers: Sequence[Logger], config: Config, directory: RunDirectory) -> None:
    """Give the loggers that keep files the shipped model and the report, where they are there."""
    files = {"model": directory.int8_artifact, "report": directory.report}
    for logger in _guarded(loggers):
        for kind, file in files.items():
            if file.is_file():
                logger.log_file(f"{config.run_name}-{kind}", kind, file)


def log_report(loggers: Sequence[Logger], directory: RunDirectory, results: Results) -> None:
    """Give the loggers that draw them the figures of the run's report, as it will be with these."""
    for logger in loggers:
        if isinstance(logger, GuardedWandb):
            logger.attempt(_log_report, logger, directory, results)


def _log_report(logger: Logger, directory: RunDirectory, results: Results) -> None:
    from bitladder.report.run_report import run_page

    record = RunRecord.read(directory.path).completed_with(results)
    log_figures([logger], figures_of(run_page(record)))


def figures_of(page: "Page") -> dict[str, "Figure"]:
    """The figures of a page by section and title, ``layers/sqnr_by_layer``, each name once."""
    figures: dict[str, Figure] = {}
    for section in page.sections:
        for number, figure in enumerate(section.figures, start=1):
            title = str(figure["layout"]["title"]["text"] or "").partition(" (")[0]
            name = f"{_slug(section.title)}/{_slug(title) or number}"
            figures[f"{name}_{number}" if name in figures else name] = figure
    return figures


def _slug(text: str) -> str:
    return re.sub(r"\W+", "_", text.lower()).strip("_")


def log_figures(loggers: Sequence[Logger], figures: Mapping[str, "Figure"]) -> None:
    """Give the loggers that draw them Plotly figures as charts, each under its name."""
    if figures:
        for logger in _guarded(loggers):
            logger.log_figures(figures)


def _guarded(loggers: Sequence[Logger]) -> list[GuardedLogger]:
    return [logger for logger in loggers if isinstance(logger, GuardedLogger)]
