"""One ``bitladder`` command in a process of its own, which notes how far it trained."""

import ctypes
import mmap
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L

import bitladder.cli.job  # noqa: F401  # imports, before the fork, what every run needs
from bitladder.callbacks import LastCheckpoint
from bitladder.cli.main import main

SIZE = 8


def run(arguments: Sequence[str], odometer: str, obeys: bool, tell: Callable[[str], None]) -> int:
    """Run a command, as the command line does.

    Args:
        arguments: Of ``bitladder``.
        odometer: A file for the number of optimizer steps that are taken, after each of them.
        obeys: Whether permissions bind it, also where it runs as root.
        tell: Unused.
    """
    if obeys:
        _give_up_privileges()
    path = Path(odometer)
    path.write_bytes(bytes(SIZE))
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), SIZE)  # which no kill takes back
    count_only = LastCheckpoint.on_train_batch_end

    def count(self: LastCheckpoint, trainer: L.Trainer, *rest: Any) -> None:
        count_only(self, trainer, *rest)
        memory[:] = struct.pack("<q", trainer.global_step)

    LastCheckpoint.on_train_batch_end = count  # type: ignore[method-assign]
    return main(arguments)


def _give_up_privileges() -> None:
    """Keep the user, and none of root's capabilities (capabilities(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def steps(odometer: Path) -> int:
    """How many optimizer steps a process has taken, dead or alive."""
    content = odometer.read_bytes() if odometer.exists() else b""
    return struct.unpack("<q", content)[0] if len(content) == SIZE else 0
