"""Paths that somebody else wrote down."""

from pathlib import PurePosixPath


def leads_out(text: str) -> bool:
    """Whether a text, read as a path, might be a place outside of the folder that it is used in."""
    path = PurePosixPath(text)
    return path.is_absolute() or ".." in path.parts or text.startswith("~") or "://" in text
