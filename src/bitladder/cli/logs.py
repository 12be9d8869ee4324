"""What libraries say while a run goes on: into a file, not between the lines of a progress bar."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from bitladder.runs import RunDirectory


@contextmanager
def logs_in(path: Path) -> Iterator[None]:
    """Send log records and warnings of the block to a file."""
    root = logging.getLogger()
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def quiet_libraries() -> None:
    """Take away the handlers with which Lightning writes to the terminal on its own."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


@contextmanager
def stderr_in_log() -> Iterator[None]:
    """Send what the block prints on stderr to the log; wandb cannot be kept from printing."""
    printed = io.StringIO()
    with redirect_stderr(printed):
        yield
    for line in printed.getvalue().splitlines():
        logging.getLogger("stderr").info(line)


def finish_wandb(exit_code: int) -> None:
    """Close wandb's run with its exit code, if one is open: else the next run would go on in it."""
    if "wandb" not in sys.modules:
        return
    try:
        with stderr_in_log():
            sys.modules["wandb"].finish(exit_code=exit_code)
    except Exception as error:  # its service may be gone, and how the run ended is not its to say
        logging.getLogger(__name__).warning("wandb's record has no end: %s", error)


def last_wandb_run(directory: RunDirectory) -> str | None:
    """The id of the wandb run that a run directory holds, if it was here before.

    Every process that goes on with it leaves a segment of its own, ``offline-run-TIME-ID``; what
    they have in common is the id, by which ``wandb sync`` puts them together. It is read from the
    name of the record, ``run-ID.wandb``: an id may have a ``-``, and wandb numbers the segments of
    one second.
    """
    records = directory.wandb.glob("*run-*-*/run-*.wandb")
    return next((record.stem.removeprefix("run-") for record in records), None)
