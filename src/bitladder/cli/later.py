"""Checkpoints that a killed run wrote after the one that it goes on from, and will write again.

Left where they are, they would make ``ModelCheckpoint`` write beside them (``best-v1.ckpt``), and
keep those that it would have removed.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from bitladder.runs import RunDirectory
from bitladder.runs.sealed import damage


def later_checkpoints(
    directory: RunDirectory, content: Mapping[str, Any] | None, keep: Collection[Path] = ()
) -> list[Path]:
    """Those that are not of the run yet where it goes on.

    Args:
        directory: The run's.
        content: The checkpoint that it goes on from; None where it starts from its beginning.
        keep: Files that are none of them.

    Returns:
        Files that a run wrote, by their checksum, after more batches, and that the checkpoint does
        not know: whatever else lies there is the user's.
    """
    place, known = (-1, []) if content is None else (_place(content), _files(content))
    if known is None or place is None:  # it is of a version that did not write them down
        return []
    own = {directory.last_checkpoint, directory.previous_checkpoint, *keep}
    return [
        path
        for path in sorted(directory.checkpoints.rglob("*.ckpt"))
        if path not in own
        and path.relative_to(directory.checkpoints).as_posix() not in known
        and path.is_file()
        and not path.is_symlink()
        and damage(path) is None
        and _place_of(path) > place
    ]


def _files(content: Mapping[str, Any]) -> list[str] | None:
    """What there was beside a checkpoint."""
    states = (x for x in content.get("callbacks", {}).values() if isinstance(x, dict))
    files = next((x["files"] for x in states if "files" in x and "over" in x), None)
    return [str(x) for x in files] if isinstance(files, list) else None


def _place_of(path: Path) -> int:
    """After how many batches a file was written; below all others if it says none."""
    try:
        content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception:  # whatever a file makes the reader raise that is no checkpoint
        return -1
    place = _place(content)
    return -1 if place is None else place


def _place(content: Mapping[str, Any]) -> int | None:
    try:
        return int(content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])
    except (KeyError, TypeError, ValueError):
        return None
