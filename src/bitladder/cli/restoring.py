"""When a run cannot go on from what a checkpoint holds."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L

from bitladder.cli.ranks import lost_another
from bitladder.cli.workers import lost_worker
from bitladder.errors import RunError, UserError

log = logging.getLogger(__name__)


@contextmanager
def restoring(
    trainer: L.Trainer, checkpoint: str | None, taken_up: Callable[[], None]
) -> Iterator[None]:
    """Make an error while a fit takes up a checkpoint one line about it.

    Lightning, callbacks and the user's own module read what they once saved, and raise whatever
    they please where it is not that. The run's log has the traceback.

    Args:
        trainer: Fits in the block.
        checkpoint: What it goes on from, if it does.
        taken_up: Is called before the first batch, when nothing can be refused any more.

    Raises:
        UserError: If anything was raised before the first batch.
    """
    watch = _TakenUp(taken_up)
    # LastCheckpoint stands first. Lightning does not declare the attribute.
    trainer.callbacks.insert(1, watch)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    except (UserError, RunError, OSError):
        raise
    except Exception as error:
        lost = isinstance(error, RuntimeError) and (lost_another(error) or lost_worker(error))
        if checkpoint is None or watch.seen or lost:
            raise
        log.exception("%s was not taken up", checkpoint)
        raise UserError(
            f"cannot go on from {checkpoint}: {type(error).__name__}: {error}; the traceback is in"
            " train.log"
        ) from error


class _TakenUp(L.Callback):
    """Notices when all is restored: at the first batch, or at the end where none is left."""

    def __init__(self, taken_up: Callable[[], None]) -> None:
        self.seen = False
        self._taken_up = taken_up

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.seen:
            self._taken_up()
        self.seen = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen = True
