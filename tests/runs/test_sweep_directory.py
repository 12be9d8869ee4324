"""A sweep's own files."""

from pathlib import Path

import pytest

from bitladder.errors import UserError
from bitladder.runs.sweep_directory import Job, JobRecord, SweepDirectory, SweepPlan

JOB = Job(id="0a1b", name="seed=2", overrides=["seed=2"])


def make(folder: Path) -> SweepDirectory:
    directory = SweepDirectory(folder)
    directory.jobs.mkdir()
    return directory


def test_what_is_written_is_read(tmp_path: Path) -> None:
    directory = make(tmp_path)
    plan = SweepPlan(created="now", overrides=["seed=1,2"], config_sha256="ff", jobs=[JOB])
    directory.write_plan(plan)
    assert directory.read_plan() == plan
    assert directory.records() == [JobRecord(id="0a1b", name="seed=2", overrides=["seed=2"])]
    record = directory.read_job(JOB)
    record.status, record.run = "completed", "digits-1"
    directory.write_job(record)
    assert directory.records() == [record]


def test_a_folder_that_is_no_sweeps(tmp_path: Path) -> None:
    assert SweepDirectory(tmp_path).read_plan() is None
    assert SweepDirectory(tmp_path).records() == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"schema_version": 1, "id": "0a1b"', "is not JSON"),
        ('{"schema_version": 1, "id": "0a1b"}', "is not whole: name"),
        (
            '{"schema_version": 1, "id": "0a", "name": "n", "overrides": [], "run": "../other"}',
            "is not whole: run: String should match pattern",
        ),
        (
            '{"schema_version": 1, "id": "a/b", "name": "n", "overrides": []}',
            "is not whole: id: String should match pattern",
        ),
        ('{"schema_version": 9}', "has schema_version 9, and this bitladder reads 1"),
    ],
)
def test_a_damaged_status_file_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    directory = make(tmp_path)
    directory.status_file(JOB.id).write_text(text)
    with pytest.raises(UserError, match=line):
        directory.read_job(JOB)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"write paths\.sweeps=FOLDER"):
        SweepDirectory(tmp_path / "file" / "sweep").held().__enter__()
