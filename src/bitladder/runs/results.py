"""The rungs of one run: how good, how large and how fast each model is."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError

from bitladder.errors import UserError
from bitladder.runs.document import Number, check_version, incomplete
from bitladder.runs.files import read_json, sha256, write_json

SCHEMA_VERSION = 2
VERSIONS = (1, 2)
"""Those that can be read. Version 1 has no `artifacts`, and rungs without `sha256`."""

Size = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
"""Bytes; no file system holds more."""

Status = Literal["completed", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One measured point of the ladder.

    Attributes:
        metrics: Metrics by name, `test/accuracy` among them.
        size_bytes: Size of the compiled model's file on disk.
        latency_ms: Milliseconds a call by batch size: `batch_1`, `batch_32`.
        artifact: The file that is shipped, relative to the run directory, where there is one.
        sha256: Of the compiled model's file, in hex.
    """

    metrics: dict[str, Number]
    size_bytes: Size
    latency_ms: dict[str, Number]
    artifact: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class ArtifactFile:
    """A model's file in the run directory.

    Attributes:
        name: Relative to the run directory.
        size_bytes: Its size on disk.
        sha256: Its hash, in hex.
    """

    name: str
    size_bytes: Size
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Describe a file in the root of a run directory."""
        return cls(name=path.name, size_bytes=path.stat().st_size, sha256=sha256(path))


@dataclass(frozen=True, kw_only=True)
class Results:
    """What results.json holds.

    Attributes:
        status: `completed`; `failed` with the `reason`; `interrupted` by the user or a signal.
        experiment: The Hydra choice, as are `precision` and `quantization`.
        precision: How training computed.
        quantization: How the model became int8.
        seed: The run's seed.
        effective_precision: What really ran, as the precision plugin says when training is over:
            the manifest's, with the loss scale and the skipped steps of fp16 as they are then.
        rungs: The measured models by name: `float`, and `int8` unless quantization is `none`.
        artifacts: Every model's file, shipped or compared with.
        reason: Why a failed run failed, in one line.
        schema_version: Of the file's form.
    """

    status: Status
    experiment: str | None
    precision: str
    quantization: str
    seed: Annotated[int, Field(strict=True)]
    effective_precision: dict[str, Any] = field(default_factory=dict)
    rungs: dict[str, Rung] = field(default_factory=dict)
    artifacts: list[ArtifactFile] = field(default_factory=list)
    reason: str | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `artifact`, `sha256` and `reason` only where there is one."""
        value = asdict(self)
        for rung in value["rungs"].values():
            for key in ("artifact", "sha256"):
                if rung[key] is None:
                    del rung[key]
        if self.reason is None:
            del value["reason"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` returned, now or in an earlier version.

        Keys that a later version added are ignored.

        Raises:
            UserError: A key is missing or of a wrong type, or the schema is not ours.
        """
        check_version(value, VERSIONS)
        try:
            return TypeAdapter(cls).validate_python(value | {"schema_version": SCHEMA_VERSION})
        except ValidationError as error:
            raise incomplete(error) from error

    def damage(self, folder: Path) -> str | None:
        """The first model's file that is not what the run wrote, and how; None if all are whole.

        Args:
            folder: The run directory. Nothing beyond it is read.
        """
        for artifact in self.artifacts:
            path = folder / artifact.name
            try:
                if Path(artifact.name).name != artifact.name or path.is_symlink():
                    return f"{artifact.name} is no file of the run directory"
                if not path.is_file():
                    return f"{artifact.name} is gone"
                if path.stat().st_size != artifact.size_bytes:
                    return f"{artifact.name} has another size than the run wrote"
                if sha256(path) != artifact.sha256:
                    return f"{artifact.name} is not what the run wrote, by its sha256"
            except (OSError, ValueError) as error:  # a name too long, or with a zero byte
                return f"{artifact.name[:100]} cannot be read: {error}"
        return None

    def write(self, path: Path) -> None:
        """Write results.json, whole or not at all.

        Raises:
            RunError: The file cannot be written.
        """
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read results.json.

        Raises:
            UserError: The file is missing, cut short, or not what `write` wrote.
        """
        value = read_json(path)
        try:
            return cls.from_json(value)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
