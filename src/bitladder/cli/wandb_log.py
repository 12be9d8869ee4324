"""What a killed run of Weights & Biases left offline, cut back to where its checkpoint stands.

A ``.wandb`` file is a log as LevelDB's (doc/log_format.md there), after a header of seven bytes and
with plain CRC-32. Each record is a protocol buffer, and each row of history is a record.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from bitladder.errors import UserError
from bitladder.runs import write_atomic

_IDENT = b":W&B"
_HEADER_BYTES = 7  # with a magic number and a version
_BLOCK_BYTES = 32768
_CHUNK = struct.Struct("<IHB")  # CRC-32 of the kind and the content, length of the content, kind
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def cut_back(path: Path, rows: int) -> int:
    """Remove the rows of history from a number on, and what a kill left of a last record.

    The file is replaced, so that a process that outlived the kill adds nothing to it.

    Args:
        path: The log of an offline run that nobody goes on writing.
        rows: The number of the first row that goes.

    Returns:
        The number of the first row that is not in it.

    Raises:
        UserError: If it is no such log.
        RunError: If it cannot be written.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    content = path.read_bytes()
    if not content.startswith(_IDENT):
        raise UserError(f"{path} is no log of wandb's")
    kept, end = [], 0
    for encoded in read_records(content):
        try:
            record = Record.FromString(encoded)
        except DecodeError as error:
            raise UserError(f"{path} is no log of wandb's: {error}") from error
        if record.WhichOneof("record_type") == "history":
            if record.history.step.num >= rows:
                continue
            end = max(end, record.history.step.num + 1)
        kept.append(encoded)
    write_atomic(path, b"".join(framed(content[:_HEADER_BYTES], kept)))
    return end


def read_records(content: bytes) -> Iterator[bytes]:
    """The records of a log up to the first that is not whole."""
    position, parts = _HEADER_BYTES, bytearray()
    while True:
        left = _BLOCK_BYTES - position % _BLOCK_BYTES
        if left < _CHUNK.size:
            position += left
        if position + _CHUNK.size > len(content):
            return
        checksum, length, kind = _CHUNK.unpack_from(content, position)
        position += _CHUNK.size + length
        part = content[position - length : position]
        if _checksum(kind, part) != checksum:
            return
        if kind in (_FULL, _FIRST):
            parts.clear()
        parts += part
        if kind in (_FULL, _LAST):
            yield bytes(parts)


def framed(header: bytes, records: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a log of these records."""
    yield header
    position = len(header)
    for record in records:
        begun, rest = False, record
        while rest or not begun:
            left = _BLOCK_BYTES - position % _BLOCK_BYTES
            if left < _CHUNK.size:
                yield bytes(left)
                position, left = position + left, _BLOCK_BYTES
            part, rest = rest[: left - _CHUNK.size], rest[left - _CHUNK.size :]
            kind = (_MIDDLE if begun else _FIRST) if rest else (_LAST if begun else _FULL)
            begun = True
            yield _CHUNK.pack(_checksum(kind, part), len(part), kind) + part
            position += _CHUNK.size + len(part)


def _checksum(kind: int, part: bytes) -> int:
    return zlib.crc32(part, zlib.crc32(bytes([kind])))
