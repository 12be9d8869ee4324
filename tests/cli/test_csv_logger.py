import csv
from pathlib import Path

import pytest

from bitladder.cli.csv_logger import CSVLogger
from bitladder.errors import UserError


def logger(folder: Path) -> CSVLogger:
    return CSVLogger(save_dir=str(folder), name="", version="")


def steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def log(it: CSVLogger, *numbers: int, key: str = "loss") -> None:
    for step in numbers:
        it.log_metrics({key: 0.5}, step=step)
        it.save()


def test_a_resumed_run_continues_the_file_with_no_step_twice(tmp_path: Path) -> None:
    first = logger(tmp_path)
    log(first, 0, 1, 2)
    state = first.state_dict()
    log(first, 3, 4)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("0.5,")  # killed in the middle of a row
    second = logger(tmp_path)
    second.load_state_dict(state)
    assert steps(tmp_path) == [0, 1, 2]
    log(second, 3, 4, 5)
    log(second, 6, key="accuracy")
    assert steps(tmp_path) == [0, 1, 2, 3, 4, 5, 6]


def test_the_file_is_the_one_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    one = logger(whole)
    log(one, 0, 1)
    log(one, 2, 3, key="accuracy")
    two = logger(killed)
    log(two, 0)
    state = two.state_dict()
    log(two, 1)
    log(two, 2, key="accuracy")
    three = logger(killed)
    three.load_state_dict(state)
    log(three, 1)
    log(three, 2, 3, key="accuracy")
    assert (whole / "metrics.csv").read_bytes() == (killed / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"0.5", b"0.4", id="a value"),
        pytest.param(b"0.5", b"0.\xff", id="no text"),
        pytest.param(b",0.5,1\r\n", b"", id="a row"),
        pytest.param(b"loss", b"lost", id="a name"),
        pytest.param(b"0.5", b'"0.5', id="a quote"),
    ],
)
def test_rows_that_are_not_those_that_were_logged_are_refused(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    first = logger(tmp_path)
    log(first, 0, 1, 2)
    log(first, 3, key="accuracy")
    path, state = tmp_path / "metrics.csv", first.state_dict()
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(UserError, match=r"metrics\.csv is not what the run wrote"):
        logger(tmp_path).load_state_dict(state)


def test_a_file_that_is_gone_begins_anew(tmp_path: Path) -> None:
    first = logger(tmp_path)
    log(first, 0, 1)
    state = first.state_dict()
    (tmp_path / "metrics.csv").unlink()
    second = logger(tmp_path)
    second.load_state_dict(state)
    log(second, 2)
    assert steps(tmp_path) == [2]


def test_without_a_checkpoint_the_file_starts_anew(tmp_path: Path) -> None:
    log(logger(tmp_path), 0, 1, 2)
    log(logger(tmp_path), 0)
    assert steps(tmp_path) == [0]


def test_a_file_that_is_gone_starts_again_with_a_header(tmp_path: Path) -> None:
    it = logger(tmp_path)
    log(it, 0, 1)
    (tmp_path / "metrics.csv").unlink()
    log(it, 2)
    assert steps(tmp_path) == [2]


def test_a_new_column_never_leaves_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = logger(tmp_path)
    log(it, 0, 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            log(it, 2, key="accuracy")
    assert steps(tmp_path) == [0, 1]
