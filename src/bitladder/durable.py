"""Giving a finished file its name, in a way that lasts through a power cut."""

import os
from pathlib import Path


def move_into_place(built: Path, path: Path) -> None:
    """Rename a file in one step, its content on the disk before its name: it is whole or not there.

    Args:
        built: The finished file, on the same file system.
        path: Its name from now on; what has it is replaced.

    Raises:
        OSError: It cannot be done; what had the name still has it.
    """
    _sync(built)
    built.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
