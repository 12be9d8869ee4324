"""One process a run directory: a lock that lasts as long as the process, and no longer."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bitladder.errors import UserError
from bitladder.runs.directory import RunDirectory

TRIES = 4
PAUSE_SECONDS = 0.05

_held: set[int] = set()


def _let_go() -> None:
    """In a forked child: data loaders' workers must not keep the lock of a parent that is gone."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(directory: RunDirectory) -> Iterator[None]:
    """Hold the run directory's lock.

    The kernel lets it go when the process ends, however it ends. The file stays.

    Raises:
        UserError: Another process holds it, or the directory cannot be written.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(directory.lock, flags, 0o644)
    except OSError as error:
        raise UserError(
            f"cannot write {directory.lock} ({error.strerror}): a run needs its directory writable"
        ) from error
    if not _take(descriptor):
        os.close(descriptor)
        raise UserError(
            f"{directory.path} belongs to another process that still runs: wait for its end, or"
            " stop it"
        )
    _held.add(descriptor)
    try:
        yield
    finally:
        _held.discard(descriptor)
        # A fork that is about to close its copy must not keep it a moment longer.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Lock a file, unless another process keeps it: who only looks at it does so for a moment."""
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE_SECONDS)
        else:
            return True
    return False
