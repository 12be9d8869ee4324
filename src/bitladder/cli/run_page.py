"""The page that a completed run leaves about itself."""

import logging

from bitladder.cli.schema import Config
from bitladder.runs import RunDirectory, RunRecord


def write_page(config: Config, directory: RunDirectory) -> None:
    """Write ``report.html`` unless ``report=false``; what keeps it from being written is logged.

    The run has its results: a page that fails must not fail it.
    """
    if not config.report:
        return
    try:
        from bitladder.report.write import write_run_report

        write_run_report(RunRecord.read(directory.path))
    except Exception as error:  # any, see above
        logging.getLogger(__name__).warning(
            "no report.html: %s", " ".join(f"{type(error).__name__}: {error}".split())
        )
