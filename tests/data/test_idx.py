import gzip
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.data.idx import read_idx
from bitladder.errors import UserError


def idx(*shape: int, kind: int = 8) -> bytes:
    size = torch.Size(shape).numel()
    header = struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape)
    return header + bytes(index % 251 for index in range(size))


def packed(content: bytes) -> bytes:
    """The same at any time: it is part of a test's name."""
    return gzip.compress(content, mtime=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images-idx3-ubyte"


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_reads_plain_and_gzip_files(path: Path, compress: type[bytes]) -> None:
    path.write_bytes(compress(idx(2, 3, 5)))
    x = read_idx(path, dims=3)
    assert (x.shape, x.dtype) == ((2, 3, 5), torch.uint8)
    assert x.flatten().tolist() == list(range(30))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(2, 3, 5)[:-1], "wrong length: expected 46 bytes, found 45;"),
        (idx(2, 3, 5) + b"x", "wrong length: expected 46 bytes, found 47;"),
        (idx(2, 3, 5)[:15], "expected at least 16 bytes, found 15;"),
        (b"", "expected at least 16 bytes, found 0;"),
        (packed(idx(2, 3, 5)[:-1]), "wrong length: expected 46 bytes, found 45;"),
        (packed(idx(2, 3, 5))[:-1], "truncated gzip data: expected 46 bytes once unpacked"),
        (packed(idx(2, 3, 5)) + b"x", "bytes after the end of the gzip data"),
        (idx(10, 3), "not an IDX file of unsigned bytes in 3 dimensions: starts with 00000802"),
        (idx(2, 3, 5, kind=13), "starts with 00000d03, expected 00000803"),
        (b"<!DOCTYPE html><html>", "starts with 3c21444f, expected 00000803"),
        (idx(0, 3, 5), r"holds no elements, its header says \(0, 3, 5\)"),
    ],
)
def test_a_damaged_file_is_named_with_the_bytes(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_idx(path, dims=3)
    assert str(error.value).startswith(str(path))


def test_a_long_gzip_file_cut_short_tells_how_much_there_was(path: Path) -> None:
    noise = torch.randint(256, (300, 100, 100), dtype=torch.uint8).numpy().tobytes()
    long = gzip.compress(idx(300, 100, 100)[:16] + noise, compresslevel=1)
    path.write_bytes(long[: len(long) // 2])
    with pytest.raises(UserError, match=r"expected 3000016 bytes once unpacked, found 1\d{6};"):
        read_idx(path, dims=3)


@given(position=st.integers(0, 200), flip=st.integers(1, 255))
def test_no_flipped_byte_of_a_gzip_file_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    content = idx(4, 7, 9)
    packed = bytearray(gzip.compress(content, mtime=0))
    position %= len(packed)
    packed[position] ^= flip
    path = tmp_path_factory.mktemp("idx") / "flipped.gz"
    path.write_bytes(packed)
    try:
        x = read_idx(path, dims=3)
    except UserError as error:
        noticed = str(path) in str(error)
    else:  # the header's time, flags and system say nothing about the data
        noticed = x.numpy().tobytes() == content[16:]
    assert noticed


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(UserError, match=r"images-idx3-ubyte: cannot be read: No such file"):
        read_idx(path, dims=3)
