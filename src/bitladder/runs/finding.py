"""Which of the folders below a folder are runs."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bitladder.runs.directory import RunDirectory

DEEPEST = 3
"""Folders from the one that is searched to a run: ``sweeps`` / a sweep / a run is two."""

_FRESH = re.compile(r"-\d{8}-\d{6}(-\d+)?")


def is_run(path: Path) -> bool:
    """Whether a folder holds a file that only runs have, or is one that has just been made."""
    run = RunDirectory(path)
    files = (run.config, run.manifest, run.metrics, run.results, run.quantization, run.lock)
    if any(os.path.lexists(file) for file in files):
        return True
    return path.is_dir() and _FRESH.search(path.name) is not None and not any(path.iterdir())


def find_runs(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """Every run below a folder, by name. Links are not followed, and nothing in a run is searched.

    Args:
        folder: Where to search; not itself a run.
        depth: How many folders a run may be below it.
    """
    try:
        children = sorted(folder.iterdir())
    except OSError:  # no permission: what cannot be listed has no runs to show
        return
    for child in children:
        if child.is_symlink() or not child.is_dir():
            continue
        if is_run(child):
            yield child
        elif depth > 1:
            yield from find_runs(child, depth - 1)
