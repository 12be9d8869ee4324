"""Checkpoints that a killed run wrote after the one that it goes on from, and will write again.

Left where they are, they would make ``ModelCheckpoint`` write beside them (``best-v1.ckpt``), and
keep those that it would have removed.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from bitladder.runs import RunDirectory, sha256
from bitladder.runs.sealed import damage


def later_checkpoints(directory: RunDirectory, content: Mapping[str, Any] | None) -> list[Path]:
    """Those that are not of the run yet where it goes on.

    Args:
        directory: The run's.
        content: The checkpoint that it goes on from; None where it starts from its beginning.

    Returns:
        Files that this very run wrote, as they say and their checksum confirms, after more batches
        than the checkpoint, which does not know them: whatever else lies there is the user's.
    """
    place, known = (-1, []) if content is None else (_place(content), _files(content))
    if known is None or place is None or not directory.manifest.is_file():
        return []  # it is of a version that did not write them down
    run = sha256(directory.manifest)
    own = {directory.last_checkpoint, directory.previous_checkpoint}
    return [
        path
        for path in sorted(directory.checkpoints.rglob("*.ckpt"))
        if path not in own
        and path.relative_to(directory.checkpoints).as_posix() not in known
        and path.is_file()
        and not path.is_symlink()
        and damage(path) is None
        and _is_later(path, place, run)
    ]


def remove(paths: Iterable[Path]) -> None:
    """Remove them, each with a line."""
    for path in paths:
        print(f"{path} is of a later step: the run writes it again")
        path.unlink(missing_ok=True)


def _states(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the callbacks that are `LastCheckpoint`."""
    callbacks = content.get("callbacks")
    values = callbacks.values() if isinstance(callbacks, dict) else ()
    return [x for x in values if isinstance(x, dict) and "run" in x]


def _files(content: Mapping[str, Any]) -> list[str] | None:
    """What there was beside a checkpoint."""
    files = next((x["files"] for x in _states(content) if "files" in x), None)
    return [str(x) for x in files] if isinstance(files, list) else None


def _is_later(path: Path, place: int, run: str) -> bool:
    try:
        content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        is_ours = any(state["run"] == run for state in _states(content))
    except Exception:  # whatever a file makes the reader raise that is no checkpoint
        return False
    there = _place(content)
    return is_ours and there is not None and there > place


def _place(content: Mapping[str, Any]) -> int | None:
    """After how many batches a checkpoint was written, if it says so."""
    try:
        return int(content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
