"""Checkpoints that carry their own checksum, so that no kill can tear the two apart.

A file that ``torch.save`` wrote is a ZIP archive, and a ZIP archive may end in a comment. The seal
is such a comment: the SHA-256 of every byte before it. PyTorch reads a sealed file as any other.
"""

import hashlib
from pathlib import Path

from bitladder.runs.files import write_atomic

_END_OF_ARCHIVE = b"PK\x05\x06"
_END_BYTES = 22  # of the end record (APPNOTE.TXT 4.3.16), whose last two are the comment's length
_MARK = b"sha256:"
_SEAL_BYTES = len(_MARK) + 64


def seal(archive: bytes) -> bytes:
    """A ZIP archive without a comment, sealed.

    Args:
        archive: The whole file, as ``torch.save`` writes it.
    """
    end = archive[-_END_BYTES:]
    assert end.startswith(_END_OF_ARCHIVE), "no ZIP archive, or one with a comment"
    body = archive[:-2] + _SEAL_BYTES.to_bytes(2, "little") + _MARK
    return body + hashlib.sha256(body).hexdigest().encode()


def damage(path: Path) -> str | None:
    """What is wrong with a sealed file, in a few words; None if every byte is as it was written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    body, digest = content[:-64], content[-64:]
    if not body.endswith(_MARK):
        return "it was cut short, or never carried a checksum"
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return "its content does not match its checksum"
    return None


def write_sealed(path: Path, archive: bytes, *, previous: Path | None = None) -> None:
    """Seal an archive and write it in one step (see `write_atomic`).

    Raises:
        RunError: The file cannot be written.
    """
    write_atomic(path, seal(archive), previous=previous)
