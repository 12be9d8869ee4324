"""The rungs of one run: how good, how large and how fast each model is."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from bitladder.errors import UserError
from bitladder.runs.files import read_json, write_json

SCHEMA_VERSION = 1

Status = Literal["completed", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One measured point of the ladder.

    Attributes:
        metrics: Metrics by name, `test/accuracy` among them.
        size_bytes: Size of the compiled model's file on disk.
        latency_ms: Milliseconds a call by batch size: `batch_1`, `batch_32`.
        artifact: The file that is shipped, relative to the run directory, where there is one.
    """

    metrics: dict[str, float]
    size_bytes: int
    latency_ms: dict[str, float]
    artifact: str | None = None


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
        reason: Why a failed run failed, in one line.
        schema_version: Of the file's form.
    """

    status: Status
    experiment: str | None
    precision: str
    quantization: str
    seed: int
    effective_precision: dict[str, Any] = field(default_factory=dict)
    rungs: dict[str, Rung] = field(default_factory=dict)
    reason: str | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `artifact` and `reason` only where there is one."""
        value = asdict(self)
        for rung in value["rungs"].values():
            if rung["artifact"] is None:
                del rung["artifact"]
        if self.reason is None:
            del value["reason"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` returned; keys that a later version added are ignored.

        Raises:
            UserError: A key is missing or of a wrong type, or the schema is not ours.
        """
        schema = value.get("schema_version")
        if schema != SCHEMA_VERSION:
            raise UserError(
                f"these results have schema_version {schema}, and this bitladder reads "
                f"{SCHEMA_VERSION}: read them with the version that wrote them"
            )
        try:
            return TypeAdapter(cls).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UserError(f"these results are not whole: {key}: {first['msg']}") from error

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
