"""Ctrl-C and SIGTERM: the batch is finished, a checkpoint written, and the run goes on some day."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import lightning as L

from bitladder.callbacks import LastCheckpoint
from bitladder.cli.workers import SIGNALS, lost_worker, sheltered_workers
from bitladder.errors import Interrupted


@contextmanager
def interruptible(trainer: L.Trainer | None = None) -> Iterator[None]:
    """Let a signal end the block in an orderly way.

    While a trainer trains, the first signal asks its :class:`LastCheckpoint` to save before the
    next batch and to stop; the second, and any at another time, ends the block where it is. A
    signal to the whole group of processes leaves those that read data alone until then.

    Args:
        trainer: The one that trains in the block, if one does.

    Raises:
        Interrupted: In the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # No other thread gets signals.
        return
    callbacks: list[L.Callback] = getattr(trainer, "callbacks", [])
    last = next((x for x in callbacks if isinstance(x, LastCheckpoint)), None)
    asked, owner = 0, os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if os.getpid() != owner:  # one that somebody forked, who knows nothing of us
            signal.signal(number, before[number])
            os.kill(os.getpid(), number)
            return
        if last is None or asked or not last.training:
            raise Interrupted(number)
        asked = number
        last.stop(number)

    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    if trainer is not None:
        # Lightning brings a handler of its own for SIGTERM, which stops between two batches, too,
        # but with no regard for gradients that accumulate.
        callbacks.append(_Handlers(handle))
    try:
        _install(handle)
        with sheltered_workers() if trainer is not None else nullcontext():
            yield
    except RuntimeError as error:
        if not asked or not lost_worker(error):
            raise
        raise Interrupted(asked) from error  # The last checkpoint is what there is.
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Handlers(L.Callback):
    """Has the last word on who handles signals."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _install(self._handle)


def _install(handle: Any) -> None:
    for number in SIGNALS:
        signal.signal(number, handle)
