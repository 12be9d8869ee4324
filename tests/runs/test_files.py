import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.errors import RunError, UserError
from bitladder.runs import read_json, write_atomic, write_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

DIES_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from bitladder.runs.files import write_atomic
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
write_atomic(Path(sys.argv[1]), "new" * 100_000)
"""


def fail_with(number: int) -> Any:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_the_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    write_atomic(path, b"new\xff")
    assert path.read_bytes() == b"new\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    write_atomic(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode == ordinary.stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    monkeypatch.setattr(os, step, fail_with(errno.ENOSPC))
    with pytest.raises(RunError, match=r"cannot write .*a\.txt: No space left") as got:
        write_atomic(path, "new")
    assert "\n" not in str(got.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_and_a_file_for_a_folder_are_errors_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("missing", "file"):
        with pytest.raises(RunError, match=r"cannot write .*a\.txt"):
            write_atomic(tmp_path / folder / "a.txt", "x")


def test_a_killed_writer_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    command = [sys.executable, "-c", DIES_BEFORE_THE_RENAME, str(path)]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_atomic(path, "newer")
    assert path.read_text() == "newer"


@given(value=st.dictionaries(st.text(), JSON, max_size=4))
def test_json_comes_back_as_it_was(
    value: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    write_json(path, value)
    assert read_json(path) == value
    assert list(read_json(path)) == list(value)


def test_what_json_has_no_number_for_becomes_a_string_that_float_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"v": [math.nan, (math.inf, {"deep": -math.inf})]})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    value = json.loads(path.read_text(), parse_constant=refuse)
    assert value == {"v": ["NaN", ["Infinity", {"deep": "-Infinity"}]]}
    assert float(value["v"][1][1]["deep"]) == -math.inf


def test_a_value_without_a_json_form_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"v": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b'{"a": 1', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1]", "not an object"),
        (b'{"a": {"b": 1, "b": 2}}', "two values for 'b'"),
    ],
)
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as got:
        read_json(path)
    assert str(path) in str(got.value)
    assert "\n" not in str(got.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a\.json is a pipe"):
        read_json(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*a\.json: No such file"):
        read_json(tmp_path / "a.json")
