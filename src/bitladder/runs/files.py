"""Files that are either whole or not there, whatever kills the writer."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from bitladder.errors import RunError, UserError


def write_atomic(path: Path, content: bytes | str, *, previous: Path | None = None) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part.

    The content reaches the disk before the name does. Text is written as UTF-8.

    Args:
        path: The file.
        content: All of it.
        previous: Another name in the same folder, under which the old file is kept. Whatever kills
            the writer, one of the two names is a whole file; for a moment only this one is.

    Raises:
        RunError: The file cannot be written (full disk, no permission, no such folder). The old
            file is as it was and nothing else is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if previous is not None and path.exists():
                os.replace(path, previous)
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def write_json(path: Path, value: object) -> None:
    """Write JSON that any parser reads, in one step (see `write_atomic`).

    Keys keep their order. JSON has no NaN or infinity: they become the strings "NaN", "Infinity"
    and "-Infinity", which `float` reads back.

    Raises:
        RunError: The file cannot be written.
        TypeError: The value holds something that JSON has no form for.
    """
    text = json.dumps(_without_non_finite(value), indent=2, allow_nan=False)
    write_atomic(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: The file is missing, cannot be read, or is not a whole JSON object.
    """
    if path.is_fifo():
        raise UserError(f"{path} is a pipe: reading it would wait for somebody who writes")
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once_each)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): was it cut short or edited?") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two values for one key, Python's reader would drop the first."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"two values for {next(key for key in keys if keys.count(key) > 1)!r}")
    return values


def sha256(path: Path) -> str:
    """The hash of a file, in hex.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_non_finite(value: object) -> object:
    match value:
        case dict():
            return {key: _without_non_finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_non_finite(item) for item in value]
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case _:
            return value


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
