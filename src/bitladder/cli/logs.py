"""What libraries say while a run goes on: into a file, not between the lines of a progress bar."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import wandb


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
    """Take away the ways in which Lightning and wandb write to the terminal on their own."""
    wandb.setup(wandb.Settings(silent=True))
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
