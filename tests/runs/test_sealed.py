import io
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitladder.runs import write_atomic
from bitladder.runs.sealed import damage, seal, write_sealed


def archive(value: float = 1.0) -> bytes:
    content = io.BytesIO()
    torch.save({"weight": torch.full((50,), value), "steps": [1, 2]}, content)
    return content.getvalue()


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    write_sealed(path, archive())
    return path


def test_a_sealed_file_is_read_as_any_other(sealed: Path) -> None:
    assert damage(sealed) is None
    for mmap in (False, True):
        content = torch.load(sealed, weights_only=True, mmap=mmap)
        assert torch.equal(content["weight"], torch.ones(50))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_and_any_cut_is_seen(sealed: Path, data: st.DataObject) -> None:
    content = seal(archive())
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    for bad in (bytes(flipped), content[:place]):
        sealed.write_bytes(bad)
        assert damage(sealed) is not None
    sealed.write_bytes(content)
    assert damage(sealed) is None


def test_a_file_without_a_seal_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "plain.ckpt").write_bytes(archive())
    assert damage(tmp_path / "plain.ckpt") == "it was cut short, or never carried a checksum"
    assert damage(tmp_path / "none.ckpt") == "no such file or directory"


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for value in (1.0, 2.0, 3.0):
        write_sealed(last, archive(value), previous=previous)
    values = [torch.load(path, weights_only=True)["weight"][0] for path in (last, previous)]
    assert values == [3.0, 2.0]
    assert len(list(tmp_path.iterdir())) == 2


def test_whenever_the_writer_is_killed_one_of_both_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    import os

    replace, left = os.replace, 0

    def replace_until(*names: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        replace(*names)

    write_atomic(last, seal(archive(0.0)))
    monkeypatch.setattr(os, "replace", replace_until)
    for allowed in (0, 1, 2):
        left = allowed
        if allowed < 2:
            with pytest.raises(KeyboardInterrupt):
                write_sealed(last, archive(1.0), previous=previous)
        else:
            write_sealed(last, archive(1.0), previous=previous)
        assert damage(last if last.exists() else previous) is None
