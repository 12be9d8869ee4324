"""IDX, the file format of MNIST and its kin.

A big-endian header (two zero bytes, a type code, the number of dimensions, each size as uint32),
then the elements in row-major order: http://yann.lecun.com/exdb/mnist.
"""

import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from bitladder.errors import UserError

_UINT8 = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


def read_idx(path: Path, dims: int) -> Tensor:
    """Read an IDX file of bytes.

    Args:
        path: The file, plain or gzip (told by its content, not by its name).
        dims: How many dimensions it must have.

    Returns:
        A uint8 tensor of ``dims`` dimensions.

    Raises:
        UserError: If the file cannot be read, is of another kind, or is truncated or corrupt;
            names the file and the bytes expected and found.
    """
    try:
        content = bytearray(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    damage = None
    if content.startswith(_GZIP_MAGIC):
        content, damage = _gunzip(content)
    header = 4 + 4 * dims
    if len(content) < header:
        raise _damaged(path, f"at least {header}", len(content), damage)
    zeros, kind, found_dims = struct.unpack_from(">HBB", content)
    if zeros != 0 or kind != _UINT8 or found_dims != dims:
        raise UserError(
            f"{path}: not an IDX file of unsigned bytes in {dims} dimensions: starts with"
            f" {content[:4].hex()}, expected {struct.pack('>HBB', 0, _UINT8, dims).hex()}"
        )
    shape = struct.unpack_from(f">{dims}I", content, offset=4)
    expected = header + math.prod(shape)
    if damage or len(content) != expected:
        raise _damaged(path, str(expected), len(content), damage)
    if expected == header:
        raise UserError(f"{path}: holds no elements, its header says {shape}")
    return torch.frombuffer(content, dtype=torch.uint8, offset=header).view(shape)


def _gunzip(content: bytearray) -> tuple[bytearray, str | None]:
    """What can be unpacked, and what is wrong with the rest, if anything."""
    unpacked = bytearray()
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        for start in range(0, len(content), _CHUNK):
            unpacked += stream.decompress(content[start : start + _CHUNK])
    except zlib.error as error:
        return unpacked, f"corrupt gzip data ({error})"
    if not stream.eof:
        return unpacked, "truncated gzip data"
    return unpacked, "bytes after the end of the gzip data" if stream.unused_data else None


def _damaged(path: Path, expected: str, found: int, damage: str | None) -> UserError:
    unpacked = " once unpacked" if damage else ""
    return UserError(
        f"{path}: {damage or 'wrong length'}: expected {expected} bytes{unpacked}, found {found};"
        " fetch the file again"
    )
