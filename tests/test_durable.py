from pathlib import Path

import pytest

from bitladder.durable import move_into_place


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    built, path = tmp_path / "built", tmp_path / "model.pt2"
    built.write_text("new")
    path.write_text("old")
    move_into_place(built, path)
    assert (path.read_text(), built.exists()) == ("new", False)


def test_what_is_not_there_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_text("old")
    with pytest.raises(FileNotFoundError):
        move_into_place(tmp_path / "built", path)
    assert path.read_text() == "old"
