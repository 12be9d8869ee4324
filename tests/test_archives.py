import io
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.archives import archive_damage, is_archive


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("model.so", bytes(range(256)) * 8)
        target.writestr("weights", b"\1\2\3\4" * 100, zipfile.ZIP_STORED)
    return content.getvalue()


CONTENT = archive()


def test_a_whole_archive_is_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "whole.pt2").write_bytes(CONTENT)
    assert archive_damage(tmp_path / "whole.pt2") is None
    torch.save({"x": torch.arange(10)}, tmp_path / "whole.ckpt")
    assert archive_damage(tmp_path / "whole.ckpt") is None


@given(bit=st.integers(0, 8 * len(CONTENT) - 1))
def test_a_flipped_bit_is_found_or_changes_no_content(
    bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.pt2"
    damaged = bytearray(CONTENT)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    if archive_damage(path) is None:
        with zipfile.ZipFile(path) as found, zipfile.ZipFile(io.BytesIO(CONTENT)) as written:
            assert {x: found.read(x) for x in found.namelist()} == {
                x: written.read(x) for x in written.namelist()
            }


@pytest.mark.parametrize(
    "content", [b"", b"no archive", CONTENT[:-30], CONTENT[: len(CONTENT) // 2]]
)
def test_what_is_cut_short_or_no_archive_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cut.pt2").write_bytes(content)
    assert archive_damage(tmp_path / "cut.pt2")


def test_the_entry_that_does_not_match_is_named(tmp_path: Path) -> None:
    content = CONTENT.replace(b"\1\2\3\4\1\2\3\4", b"\1\2\3\4\1\2\3\5", 1)
    (tmp_path / "flipped.pt2").write_bytes(content)
    assert archive_damage(tmp_path / "flipped.pt2") == "the checksum of weights does not match"


def test_an_archive_of_which_python_knows_no_reading_is_a_damaged_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(path := tmp_path / "disks.pt2", "w", allowZip64=True) as target:
        target.writestr("a", b"x")
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\5\6")
    locator = b"PK\6\7" + bytes(4) + bytes(8) + (7).to_bytes(4, "little")  # of seven disks
    path.write_bytes(content[:end] + locator + content[end:])
    assert is_archive(path)
    assert archive_damage(path) is not None
