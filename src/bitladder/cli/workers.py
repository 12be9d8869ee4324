"""Data workers that outlive the signal that ends a run.

A terminal's Ctrl-C, and whoever ends a job with all of its processes, signal the workers as well,
and the run that lets its batch end and saves still needs them.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks a run to end."""

_sheltered = False  # What is registered at forks stays so for good, and looks here.


@contextmanager
def sheltered_workers() -> Iterator[None]:
    """Let processes that are forked in the block ignore `SIGNALS`, but for this process's own.

    Workers that ``multiprocessing_context="spawn"`` starts end at a signal as ever.
    """
    global _sheltered
    _register()
    before, _sheltered = _sheltered, True
    try:
        yield
    finally:
        _sheltered = before


def lost_worker(error: BaseException) -> bool:
    """Whether PyTorch says that a data worker has ended."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


@cache
def _register() -> None:
    os.register_at_fork(after_in_child=_shelter)


def _shelter() -> None:
    if _sheltered:
        # Blocked, not ignored: PyTorch gives its workers a handler of SIGTERM afterwards.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    """End where the parent says so: it does of a worker that hangs."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
