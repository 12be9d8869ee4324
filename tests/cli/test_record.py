import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from bitladder.cli.record import failure_recorded
from bitladder.cli.schema import Config
from bitladder.errors import RunError
from bitladder.runs import Results, RunDirectory


def fail(config: Config, directory: Path, error: Exception) -> str:
    """The reason that is written down for an error."""
    with failure_recorded(config, RunDirectory(directory)):
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_takes_no_more_is_told_with_the_runs_directory(
    tmp_path: Path, config: Callable[..., Config], number: int
) -> None:
    with pytest.raises(RunError, match=str(tmp_path)):
        fail(config(), tmp_path, OSError(number, "Bad Disk"))
    assert Results.read(tmp_path / "results.json").reason == f"bad disk: {tmp_path}"


def test_a_file_is_named(tmp_path: Path, config: Callable[..., Config]) -> None:
    with pytest.raises(RunError, match="no such file: /there"):
        fail(config(), tmp_path, FileNotFoundError(errno.ENOENT, "No such file", "/there"))


def test_what_has_no_place_on_the_disk_is_not_given_one(
    tmp_path: Path, config: Callable[..., Config]
) -> None:
    with pytest.raises(ConnectionResetError):
        fail(config(), tmp_path, ConnectionResetError(errno.ECONNRESET, "Connection reset"))
    reason = Results.read(tmp_path / "results.json").reason
    assert reason == "ConnectionResetError: [Errno 104] Connection reset"
