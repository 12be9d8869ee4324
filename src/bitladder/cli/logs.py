"""What libraries say while a run goes on: into a file, not between the lines of a progress bar."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def silence_wandb() -> None:
    """Keep wandb from the terminal; its own files hold what it says."""
    import wandb  # takes a second: only runs that log with it pay

    wandb.setup(wandb.Settings(silent=True))


def finish_wandb(exit_code: int) -> None:
    """Close wandb's run with its exit code, if one is open: else the next run would go on in it."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=exit_code)
