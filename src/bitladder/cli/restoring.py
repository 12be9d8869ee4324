"""When a run cannot go on from what a checkpoint holds."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L

from bitladder.cli.ranks import lost_another
from bitladder.errors import RunError, UserError

log = logging.getLogger(__name__)


@contextmanager
def restoring(trainer: L.Trainer, checkpoint: str | None) -> Iterator[None]:
    """Make an error while a fit takes up a checkpoint one line about it.

    Lightning, callbacks and the user's own module read what they once saved, and raise whatever
    they please where it is not that. The run's log has the traceback.

    Args:
        trainer: Fits in the block.
        checkpoint: What it goes on from, if it does.

    Raises:
        UserError: If anything was raised before the first batch.
    """
    if checkpoint is None:
        yield
        return
    taken_up = _TakenUp()
    # LastCheckpoint stands first. Lightning does not declare the attribute.
    trainer.callbacks.insert(1, taken_up)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    except (UserError, RunError, OSError):
        raise
    except Exception as error:
        if taken_up.seen or (isinstance(error, RuntimeError) and lost_another(error)):
            raise
        log.exception("%s was not taken up", checkpoint)
        raise UserError(
            f"cannot go on from {checkpoint}: {type(error).__name__}: {error}; the traceback is in"
            " train.log"
        ) from error


class _TakenUp(L.Callback):
    """Notices when all is restored: at the first batch, or at the end where none is left."""

    seen = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.seen = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen = True
