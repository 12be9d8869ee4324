"""Run directories read back as data, never as code, however far the run came."""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml

from bitladder.errors import UserError
from bitladder.runs.directory import RunDirectory
from bitladder.runs.document import check_version
from bitladder.runs.files import read_json
from bitladder.runs.results import Results, Rung
from bitladder.runs.series import Series, read_series

State = Literal["completed", "failed", "running", "interrupted", "damaged", "empty"]

LARGEST_DOCUMENT_BYTES = 32 * 1024**2
"""Of a JSON or YAML file; a run writes some hundred kilobytes at most."""

LARGEST_METRICS_BYTES = 512 * 1024**2

DEEPEST = 50
"""Levels of a configuration."""

QUIET_SECONDS = 120.0
"""A run that keeps no lock and wrote nothing for so long is over."""

Content = TypeVar("Content")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run directory says, complete or not.

    Attributes:
        directory: Where it lies.
        state: ``completed``, ``failed`` and so on as ``results.json`` says; ``running`` or
            ``interrupted`` where there is none, and ``running`` where one that failed goes on;
            ``damaged`` where that file cannot be read; ``empty`` where no file is a run's.
        config: The values of ``config.yaml``; empty where it is missing or cannot be read.
        manifest: Of ``manifest.json``, likewise.
        results: The rungs, or why the run failed.
        precision: Of ``precision.json``: per linear, where the precision reports that.
        quantization: Of ``quantization.json``: per layer; None where the run has none.
        metrics: Every logged scalar, by key.
        problem: The first thing that cannot be read and why, in one line.
    """

    directory: RunDirectory
    state: State
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    results: Results | None = None
    precision: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None
    metrics: dict[str, Series] = field(default_factory=dict)
    problem: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a directory. Never raises: what is missing is empty, what is wrong is a problem.

        Links that lead out of the directory, and files larger than any run's, are not read.
        """
        reader = _Reader(RunDirectory(path))
        directory = reader.directory
        results = reader.read(directory.results, Results.read)
        state = reader.state(results)
        return cls(
            directory=directory,
            state=state,
            results=results,
            config=reader.read(directory.config, read_config) or {},
            manifest=reader.read(directory.manifest, _read_document) or {},
            precision=reader.read(directory.precision, _read_document),
            quantization=reader.read(directory.quantization, _read_document),
            metrics=reader.read(directory.metrics, read_series, LARGEST_METRICS_BYTES) or {},
            problem=reader.problem,
        )

    def completed_with(self, results: Results) -> Self:
        """The record that is read once the run has written its results, which it does last."""
        return replace(self, state="completed", results=results)

    @property
    def path(self) -> Path:
        """The directory itself."""
        return self.directory.path

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name or str(self.path)

    @property
    def rungs(self) -> dict[str, Rung]:
        """The measured models by name; none unless the run is completed."""
        return self.results.rungs if self.results else {}

    @property
    def experiment(self) -> str | None:
        """Which experiment it was, where the results or the configuration say so."""
        return self.results.experiment if self.results else self._choice("experiment")

    @property
    def precision_name(self) -> str | None:
        """The precision that was asked for, likewise."""
        return self.results.precision if self.results else self._choice("precision")

    @property
    def quantization_name(self) -> str | None:
        """How the model was to become integer, likewise."""
        return self.results.quantization if self.results else self._choice("quantization")

    @property
    def seed(self) -> int | None:
        """The seed, likewise."""
        seed = self.results.seed if self.results else self.config.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def reason(self) -> str | None:
        """Why the run is not complete, as far as that is known, in one line."""
        return (self.results.reason if self.results else None) or self.problem

    def _choice(self, group: str) -> str | None:
        choice = lookup(self.config, "choices", group)
        return choice if isinstance(choice, str) else None


def lookup(values: object, *keys: str) -> Any:
    """A value in nested mappings that may not be what they should be; None where it is not."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def real(value: object) -> float | None:
    """A number, also one that `write_json` had to write as a string; None where it is none."""
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        return None
    try:
        return None if isinstance(value, bool) else float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return None


def read_config(path: Path) -> dict[str, Any]:
    """Read ``config.yaml`` as plain containers, with nothing in it resolved.

    Raises:
        UserError: If it cannot be read or is not what a run writes.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
        _check_shape(yaml.parse(text, loader), path)
        values = yaml.load(text, loader)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UserError:
        raise
    except Exception as error:  # PyYAML has its own, and what a tag's constructor comes to
        raise UserError(f"{path} is not YAML ({error}): was it cut short or edited?") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no mapping")
    return {str(key): value for key, value in values.items()}


def _read_document(path: Path) -> dict[str, Any]:
    """A JSON file of our form, complete or not: a reader takes what is there."""
    value = read_json(path)
    try:
        check_version({"schema_version": 1} | value, (1,))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return value


def _check_shape(events: Iterable[yaml.Event], path: Path) -> None:
    """Refuse what a few lines can blow up: references to references, nesting beyond the stack."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            raise UserError(f"{path} has aliases or {DEEPEST} levels, which no run writes")


class _Reader:
    """Reads the files of one directory and keeps the first complaint."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self.problem: str | None = None

    def read(
        self, path: Path, how: Callable[[Path], Content], largest: int = LARGEST_DOCUMENT_BYTES
    ) -> Content | None:
        """A file's content; None where it is missing, or cannot be read, which is a problem."""
        try:
            return how(path) if readable(self.directory, path, largest) else None
        except UserError as error:
            self._complain(str(error))
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no permission
            self._complain(f"cannot read {path}: {error}")
        return None

    def state(self, results: Results | None) -> State:
        """What the run is, once ``results.json`` was read."""
        if results is not None and results.status == "completed":
            return "completed"
        if self.problem is not None:
            return "damaged"
        directory = self.directory
        files = (directory.config, directory.manifest, directory.metrics, directory.log)
        try:
            held = is_held(directory.lock)
            written = [os.lstat(file).st_mtime for file in files if os.path.lexists(file)]
        except OSError as error:
            self._complain(f"cannot read {directory.path}: {error.strerror}")
            return "damaged"
        if results is not None:
            return "running" if held else results.status  # it failed once, and goes on
        if not written and held is None:
            return "empty"
        if held is None:
            # A clock that was set back makes files of the future: they were written just now.
            held = time.time() - max(written) < QUIET_SECONDS
        return "running" if held else "interrupted"

    def _complain(self, problem: str) -> None:
        self.problem = self.problem or " ".join(problem.split())


def readable(directory: RunDirectory, path: Path, largest: int) -> bool:
    """Whether a file is there; one that a run would not have written is refused.

    Args:
        directory: The run's.
        path: A file of it.
        largest: Bytes that it may have.

    Raises:
        UserError: If it leads out of the directory, is no file, or is larger.
        OSError: If it cannot be looked at: a loop of links, no permission.
    """
    if not os.path.lexists(path):
        return False
    if not path.resolve(strict=True).is_relative_to(directory.path.resolve()):
        raise UserError(f"{path} leads out of the run directory: only what is in it is read")
    if not path.is_file():
        raise UserError(f"{path} is no file")
    if (size := path.stat().st_size) > largest:
        raise UserError(
            f"{path} has {size / 1e6:.0f} MB: no run writes more than {largest / 1e6:.0f}"
        )
    return True


def is_held(lock: Path) -> bool | None:
    """Whether a process holds a lock file, which it does as long as it lives; None without one.

    Raises:
        OSError: If it cannot be opened.
    """
    try:
        # Neither a link nor a pipe in its place leads anywhere or waits for a writer.
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
