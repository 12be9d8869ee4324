import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.runs import Results, RunDirectory, Rung, RunRecord, write_json
from bitladder.runs.reading import lookup, real

FILES = (
    "config.yaml",
    "manifest.json",
    "metrics.csv",
    "results.json",
    "precision.json",
    "quantization.json",
)
CONFIG = "seed: 3\nchoices:\n  experiment: digits\n  precision: bf16\n  quantization: ptq\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A completed run."""
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    directory.config.write_text(CONFIG)
    directory.metrics.write_text("step,loss\n0,1.5\n")
    write_json(directory.manifest, {"schema_version": 1, "seed": 3})
    write_json(directory.precision, {"linears": []})
    write_json(directory.quantization, {"layers": []})
    rung = Rung(metrics={"test/accuracy": 0.5}, size_bytes=10, latency_ms={"batch_1": 1.0})
    Results(
        status="completed",
        experiment="digits",
        precision="bf16",
        quantization="ptq",
        seed=3,
        rungs={"float": rung},
    ).write(directory.results)
    return directory


def age(directory: RunDirectory) -> None:
    for path in directory.path.iterdir():
        os.utime(path, (1e9, 1e9))


@contextmanager
def held(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_completed_run_is_read_whole(run: RunDirectory) -> None:
    record = RunRecord.read(run.path)
    assert (record.state, record.problem, record.reason) == ("completed", None, None)
    assert (record.name, record.experiment, record.seed) == ("run", "digits", 3)
    assert (record.precision_name, record.quantization_name) == ("bf16", "ptq")
    assert record.rungs["float"].metrics == {"test/accuracy": 0.5}
    assert record.metrics["loss"].last == 1.5
    assert record.manifest["seed"] == 3
    assert record.quantization == {"layers": []}


def test_a_failed_run_says_why(run: RunDirectory) -> None:
    Results(
        status="failed",
        experiment=None,
        precision="fp16",
        quantization="none",
        seed=1,
        reason="NaN",
    ).write(run.results)
    record = RunRecord.read(run.path)
    assert (record.state, record.reason) == ("failed", "NaN")
    assert record.rungs == {}


def test_without_results_what_was_just_written_runs_and_the_rest_is_interrupted(
    run: RunDirectory,
) -> None:
    run.results.unlink()
    assert RunRecord.read(run.path).state == "running"
    age(run)
    record = RunRecord.read(run.path)
    assert record.state == "interrupted"
    assert (record.experiment, record.precision_name, record.seed) == ("digits", "bf16", 3)


def test_a_lock_decides_whatever_the_clock_says(run: RunDirectory) -> None:
    run.results.unlink()
    with held(run.lock):
        age(run)
        assert RunRecord.read(run.path).state == "running"
    run.metrics.touch()
    assert RunRecord.read(run.path).state == "interrupted"


def test_a_failed_run_that_goes_on_is_running_and_a_completed_one_is_completed(
    run: RunDirectory,
) -> None:
    with held(run.lock):
        assert RunRecord.read(run.path).state == "completed"
        values = json.loads(run.results.read_text()) | {"status": "failed", "reason": "killed"}
        write_json(run.results, values)
        assert RunRecord.read(run.path).state == "running"
    assert RunRecord.read(run.path).state == "failed"


def test_a_directory_without_any_file_of_a_run_is_empty(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    for path in (tmp_path, tmp_path / "not there", tmp_path / "holiday.jpg"):
        record = RunRecord.read(path)
        assert (record.state, record.problem) == ("empty", None)


def test_results_of_another_schema_are_a_problem_with_the_way_out(run: RunDirectory) -> None:
    values = json.loads(run.results.read_text()) | {"schema_version": 0}
    write_json(run.results, values)
    record = RunRecord.read(run.path)
    assert record.state == "damaged"
    assert record.problem is not None
    assert "schema_version 0" in record.problem
    assert "with the version that wrote it" in record.problem
    assert record.metrics["loss"].last == 1.5


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content",
    [
        *(b"\n", b"\xff\xfe\n", b'{"a":\n', b"[" * 200_000 + b"\n", b"a: &x 1\nb: *x\n"),
        *(b'a: !!timestamp "b"\n', b'a: !!bool "b"\n'),
    ],
)
def test_any_file_may_hold_anything(run: RunDirectory, name: str, content: bytes) -> None:
    (run.path / name).write_bytes(content)
    record = RunRecord.read(run.path)
    assert record.state == ("damaged" if name == "results.json" else "completed")
    if (name, content) != ("metrics.csv", b"\n"):  # nothing logged yet
        assert record.problem is not None
        assert name in record.problem
        assert "\n" not in record.problem


@given(content=st.binary(max_size=200), name=st.sampled_from(FILES))
def test_reading_never_raises(
    content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run")
    (path / name).write_bytes(content)
    RunRecord.read(path)


@pytest.mark.parametrize("name", FILES)
def test_links_that_lead_out_are_refused(run: RunDirectory, tmp_path: Path, name: str) -> None:
    (run.path / name).rename(tmp_path / "elsewhere")
    (run.path / name).symlink_to(tmp_path / "elsewhere")
    record = RunRecord.read(run.path)
    assert record.problem is not None
    assert "leads out of the run directory" in record.problem


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_refused(run: RunDirectory, name: str) -> None:
    path = run.path / name
    path.unlink()
    os.mkfifo(path)
    assert "is no file" in (RunRecord.read(run.path).problem or "")
    path.unlink()
    path.symlink_to(path)
    assert name in (RunRecord.read(run.path).problem or "")


def test_a_file_larger_than_any_run_writes_is_not_read(run: RunDirectory) -> None:
    with run.manifest.open("ab") as file:
        file.truncate(10**9)
    assert "has 1000 MB" in (RunRecord.read(run.path).problem or "")


def test_lookup_gives_none_where_a_value_is_not_what_it_should_be() -> None:
    assert lookup({"a": {"b": 1}}, "a", "b") == 1
    for values in ({"a": [1]}, {"a": None}, {}, None, "a"):
        assert lookup(values, "a", "b") is None


def test_real_reads_what_json_holds_for_a_number_and_nothing_else() -> None:
    assert (real(1), real(0.5), real("Infinity")) == (1.0, 0.5, math.inf)
    assert math.isnan(real("NaN") or 0.0)
    for value in (None, True, "1.0", "<b>", [1.0], {}, 10**400):
        assert real(value) is None
