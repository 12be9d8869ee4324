"""A job in a process of its own, forked off one that has imported what every job needs."""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

Tell = Callable[[str], None]
"""How a job says which run directory it has made."""


@dataclass(frozen=True)
class JobProcess:
    """A job that is running.

    Attributes:
        process: The process.
        link: Gives the name of the run directory once there is one.
        life: Is never written to. It is closed when we die, and the job dies of that.
    """

    process: ForkServerProcess
    link: Connection
    life: Connection

    def interrupt(self) -> None:
        """Tell the job to leave what it leaves when it is interrupted, and wait until it has."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)
        self.process.join()

    def close(self) -> None:
        """Let go of a job that has ended."""
        self.link.close()
        self.life.close()


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
    link, tell = context.Pipe(duplex=False)
    alive, life = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(function, arguments, str(log), tell, alive))
    process.start()
    tell.close()
    alive.close()
    return JobProcess(process, link, life)


def _main(
    function: str, arguments: tuple[Any, ...], log: str, tell: Connection, alive: Connection
) -> None:
    # Started in the background of a shell a process ignores SIGINT, and so would the job.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Else all that the job starts would be forked off a server, too: data loaders' workers, which
    # then import everything anew, and outlive a job that is killed.
    multiprocessing.set_start_method(None, force=True)
    os.setsid()  # Ctrl-C in the terminal reaches the sweep alone, which passes it on, once
    threading.Thread(target=_die_with, args=(alive,), daemon=True).start()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    module, _, name = function.partition(":")
    try:
        status = getattr(importlib.import_module(module), name)(*arguments, tell.send)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(status)


def _die_with(alive: Connection) -> None:
    """Wait for the end of the process that holds the other end, then end this one and its own."""
    try:
        alive.recv_bytes()
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)
