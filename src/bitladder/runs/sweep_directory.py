"""Where a sweep keeps what it was asked for and how far each of its jobs is."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from bitladder.errors import UserError
from bitladder.runs.files import read_json, write_json

SCHEMA_VERSION = 1

JobStatus = Literal["pending", "running", "completed", "failed", "killed", "pruned"]

FileName = Annotated[str, Field(pattern=r"^\w[^/\\]*$")]
"""A name that leads to nowhere but the folder that it is looked up in."""

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that a sweep asks for.

    Attributes:
        id: From the content of its configuration, or its number in a search: a file's name.
        name: What tells it from the others, for people: ``precision=bf16 seed=2``.
        overrides: All that makes its configuration, as on the command line.
    """

    id: FileName
    name: str
    overrides: list[str]


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What ``sweep.json`` holds: what was asked for.

    Attributes:
        created: When, in ISO 8601.
        overrides: As on the command line.
        config_sha256: Of the jobs' configurations.
        settings: The keys of ``sweep``.
        config: The configuration of the first job, to tell later what changed.
        jobs: The jobs, in their order.
        schema_version: Of the file's form.
    """

    created: str
    overrides: list[str]
    config_sha256: str
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION


@dataclass(kw_only=True)
class JobRecord:
    """What ``jobs/<id>.json`` holds: how far one job is.

    Attributes:
        id: The job's, as are `name` and `overrides`.
        status: ``running`` of a job whose sweep was killed, too. What is not ``completed`` or
            ``pruned`` is started again; ``running`` and ``killed`` go on where they stood.
        attempts: How often it was started.
        run: The name of the run directory that counts, in the sweep's.
        exit_status: Of its process; negative for the signal that killed it.
        reason: Why it is not completed, in one line.
        started: In ISO 8601, as is `ended`.
        schema_version: Of the file's form.
    """

    id: FileName
    name: str
    overrides: list[str]
    status: JobStatus = "pending"
    attempts: int = 0
    run: FileName | None = None
    exit_status: int | None = None
    reason: str | None = None
    started: str | None = None
    ended: str | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class SweepDirectory:
    """A sweep's folder: its plan, a status file and a log a job, and the run directories.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @property
    def plan(self) -> Path:
        """What was asked for."""
        return self.path / "sweep.json"

    @property
    def jobs(self) -> Path:
        """The folder of status files and logs."""
        return self.path / "jobs"

    @property
    def study(self) -> Path:
        """Optuna's SQLite file, of a search."""
        return self.path / "study.db"

    @property
    def report(self) -> Path:
        """The page about the sweep."""
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the sweep, as long as it lives."""
        return self.path / "sweep.lock"

    def status_file(self, job_id: str) -> Path:
        """How far a job is."""
        return self.jobs / f"{job_id}.json"

    def log_file(self, job_id: str) -> Path:
        """What a job printed, with the traceback if it failed."""
        return self.jobs / f"{job_id}.log"

    def read_plan(self) -> SweepPlan | None:
        """What was asked for; None of a folder that is no sweep's yet.

        Raises:
            UserError: If the file is damaged.
        """
        return _read(self.plan, SweepPlan) if self.plan.exists() else None

    def write_plan(self, plan: SweepPlan) -> None:
        """Write down what was asked for.

        Raises:
            RunError: If the file cannot be written.
        """
        write_json(self.plan, asdict(plan))

    def read_job(self, job: Job) -> JobRecord:
        """How far a job is; ``pending`` where nothing is known.

        Raises:
            UserError: If its file is damaged.
        """
        path = self.status_file(job.id)
        if path.exists():
            return _read(path, JobRecord)
        return JobRecord(id=job.id, name=job.name, overrides=job.overrides)

    def write_job(self, record: JobRecord) -> None:
        """Write down how far a job is.

        Raises:
            RunError: If the file cannot be written.
        """
        write_json(self.status_file(record.id), asdict(record))

    def records(self) -> list[JobRecord]:
        """Every job of the plan, in its order.

        Raises:
            UserError: If a file is damaged.
        """
        plan = self.read_plan()
        return [self.read_job(job) for job in plan.jobs] if plan else []

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Keep every other process from running this sweep while the block lasts.

        Raises:
            UserError: If another process runs it, or the folder cannot be written.
        """
        try:
            self.jobs.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; write paths.sweeps=FOLDER") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UserError(
                f"{self.path} is being run by another process: wait for it, or write"
                " sweep.name=ANOTHER"
            ) from error
        try:
            yield self
        finally:
            os.close(descriptor)


def _read(path: Path, kind: type[Record]) -> Record:
    value = read_json(path)
    schema = value.get("schema_version")
    if schema != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema_version {schema}, and this bitladder reads {SCHEMA_VERSION}: go on"
            " with the version that wrote it"
        )
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} is not whole: {key}: {first['msg']}") from error
