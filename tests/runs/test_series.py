import math
import time
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from bitladder.errors import UserError
from bitladder.runs.series import read_series


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    return path


def test_what_the_logger_writes_is_read_back_by_key(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    for step in range(5):
        logger.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
    logger.save()
    logger.log_metrics({"val, of <b>all</b>": 0.25}, step=4)  # the logger writes all anew
    logger.save()
    series = read_series(tmp_path / "metrics.csv")
    assert set(series) == {"loss", "val, of <b>all</b>"}
    assert series["loss"].steps == [0, 1, 2, 3, 4]
    assert series["loss"].values == [1.0 / (step + 1) for step in range(5)]
    assert series["val, of <b>all</b>"].last == 0.25


def test_numbers_that_are_none_stay_what_they_are(tmp_path: Path) -> None:
    series = read_series(written(tmp_path, "step,x,y\n0,nan,\n1,inf,\n2,-inf,\n"))
    nan, *rest = series["x"].values
    assert math.isnan(nan)
    assert rest == [math.inf, -math.inf]
    assert "y" not in series


@pytest.mark.parametrize("text", ["", "step,x\n", "step,x"])
def test_a_table_without_rows_has_no_series(tmp_path: Path, text: str) -> None:
    assert read_series(written(tmp_path, text)) == {}


def test_a_last_line_that_is_cut_short_is_left_out(tmp_path: Path) -> None:
    series = read_series(written(tmp_path, "step,x\n0,0.5\n1,0.12"))
    assert series["x"].values == [0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", "has no column step"),
        ("step,x\n0,1\n1,<b>\n", "could not convert string to float: '<b>'"),
        ("step,x\n0,1,2,3\n", "is longer than"),
        ("step,x\n,1\n", "could not convert"),
        ("step,x\ninf,1\n", "cannot convert float infinity"),
        ("step,x\n0\0,1\n", "is not a table of numbers"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_series(written(tmp_path, text))


def test_ten_thousand_steps_are_read_at_once(tmp_path: Path) -> None:
    rows = "".join(f"{step},{step / 3},,,{'nan' if step % 2 else ''}\n" for step in range(10_000))
    path = written(tmp_path, f"step,a,b,c,d\n{rows}")
    start = time.process_time()
    series = read_series(path)
    assert time.process_time() - start < 2.0
    assert len(series["a"]) == 10_000
