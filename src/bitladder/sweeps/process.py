"""A job in a process of its own, forked off one that has imported what every job needs."""

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
"""Of ``prctl(2)``: which signal a process gets when its parent dies."""

Tell = Callable[[str], None]
"""How a job says which run directory it has made."""


@dataclass(frozen=True)
class JobProcess:
    """A job that is running.

    Attributes:
        process: The process; it dies with the server that forked it, which dies with us.
        link: Gives the name of the run directory once there is one, and ends with the job.
    """

    process: ForkServerProcess
    link: Connection

    def interrupt(self) -> None:
        """Tell the job to leave what it leaves when it is interrupted, and wait until it has."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)
        self.process.join()


def start(function: str, arguments: tuple[Any, ...], log: Path) -> JobProcess:
    """Start a job. What it prints is appended to its log, a traceback too.

    Nothing of one job reaches another: each has random states, loggers and caches in memory of its
    own. The server imports once, before the first fork; it starts no threads and never touches a
    GPU, so that a fork is as good as a fresh interpreter.

    Args:
        function: ``module:name`` of what the job does; it is called with the arguments and
            something to tell its run directory by, and gives an exit status.
        arguments: Plain values.
        log: Where its output goes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.partition(":")[0]])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(function, arguments, str(log), theirs))
    process.start()
    theirs.close()
    return JobProcess(process, ours)


def _main(function: str, arguments: tuple[Any, ...], log: str, link: Connection) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()  # Ctrl-C in the terminal reaches the sweep alone, which passes it on, once
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    module, _, name = function.partition(":")
    try:
        status = getattr(importlib.import_module(module), name)(*arguments, link.send)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(status)
