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
from multiprocessing import popen_fork
from multiprocessing.util import register_after_fork
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks a run to end."""


class _Shelter:
    """What is registered at forks is forgotten when this is."""


@contextmanager
def sheltered_workers() -> Iterator[None]:
    """Let processes that ``multiprocessing`` forks in the block ignore `SIGNALS`.

    This process's own SIGTERM ends them as ever. Programs that are started, and workers of a
    loader with ``multiprocessing_context="spawn"``, hear both.
    """
    shelter, launch = _Shelter(), getattr(popen_fork.Popen, "_launch")  # noqa: B009
    register_after_fork(shelter, _take_shelter)

    def masked(popen: popen_fork.Popen, process: Any) -> None:
        # Threads that libraries start at forks, such as wandb's, begin with signals blocked, too.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            launch(popen, process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    setattr(popen_fork.Popen, "_launch", masked)  # noqa: B010
    try:
        yield
    finally:
        setattr(popen_fork.Popen, "_launch", launch)  # noqa: B010
        del shelter


def lost_worker(error: BaseException) -> bool:
    """Whether PyTorch says that a data worker has ended."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


def _take_shelter(_: _Shelter) -> None:
    # Signals are blocked, not ignored: PyTorch gives its workers a handler of SIGTERM afterwards.
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
