"""Data workers that outlive the signal that ends a run.

A terminal's Ctrl-C, and whoever ends a job with all of its processes, signal the workers as well,
and the run that lets its batch end and saves still needs them.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.util import register_after_fork
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks a run to end."""


_sheltered = False  # What is registered at forks stays so for good, and looks here.


class _Shelter:
    """What is registered at forks is forgotten when this is."""


@contextmanager
def sheltered_workers() -> Iterator[None]:
    """Let processes that are forked in the block ignore `SIGNALS`, but for this process's own.

    Programs are not forked so, unless ``Popen`` is given a ``preexec_fn``. Workers that
    ``multiprocessing_context="spawn"`` starts end at a signal as ever.
    """
    global _sheltered
    shelter, before = _Shelter(), _sheltered
    register_after_fork(shelter, _take_shelter)
    _mask_while_forking()
    _sheltered = True
    try:
        yield
    finally:
        del shelter
        _sheltered = before


def lost_worker(error: BaseException) -> bool:
    """Whether PyTorch says that a data worker has ended."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


@cache
def _mask_while_forking() -> None:
    """Have threads that libraries start at forks, such as wandb's, begin with signals blocked."""
    masks: list[set[int]] = []

    def block() -> None:
        if _sheltered:
            masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)))

    def restore() -> None:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    os.register_at_fork(before=block, after_in_parent=restore)


def _take_shelter(_: _Shelter) -> None:
    # Blocked, not ignored: PyTorch gives its workers a handler of SIGTERM afterwards.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()
    # Programs that a worker starts would have them blocked, too, and not end when it says so.
    start = getattr(subprocess, "_fork_exec", None)
    if start is not None:
        setattr(subprocess, "_fork_exec", _unblocked(start))  # noqa: B010


def _unblocked(start: Callable[..., Any]) -> Callable[..., Any]:
    def fork_exec(*arguments: Any) -> Any:
        before = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            return start(*arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return fork_exec


def _obey(parent: int) -> None:
    """End where the parent says so: it does of a worker that hangs."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
