"""What the user asks of a command that starts from a finished run."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bitladder.cli.overrides import is_sweep, parse
from bitladder.cli.suggest import hint
from bitladder.cli.validate import first_line
from bitladder.errors import UserError


class SharedOptions(BaseModel):
    """The keys that all such commands share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    run: str
    """The run directory."""
    allow: list[str] = []
    """Packages whose code the run's configuration may name."""
    trust_links: bool = False
    """Whether links in the run directory may lead out of it."""


class ResumeOptions(SharedOptions):
    """The keys of ``bitladder resume``."""

    trust_loggers: bool = False
    """Whether the run's loggers may write and send where its configuration says."""


class RunOptions(SharedOptions):
    """The keys that the commands share which take a checkpoint and leave the run as it is."""

    checkpoint: str | None = None
    """Which of its checkpoints."""
    allow_unfinished: bool = False
    """Whether a run may do that failed, or never came to its end."""


class QuantizeOptions(RunOptions):
    """The keys of ``bitladder quantize``."""


class ReproduceOptions(RunOptions):
    """The keys of ``bitladder reproduce``; ``checkpoint`` is the file that the run started from."""


class EvaluateOptions(RunOptions):
    """The keys of ``bitladder evaluate``."""

    trust_artifact: bool = False
    """Whether the artifact, which is native code, may be run."""
    output: str | None = None
    """The file to write instead of ``evaluation.json`` in the run directory."""
    strict: bool = False
    """Whether an accuracy other than the recorded one is a failure."""


Options = TypeVar("Options", bound=SharedOptions)


def read_options(
    kind: type[Options], texts: Sequence[str], known: Collection[str]
) -> tuple[Options, list[str]]:
    """Take a command's own keys from its arguments.

    Args:
        kind: Which keys those are.
        texts: ``key=value``, as on the command line. Paths are taken as they are written.
        known: Sections of the configuration that the command takes overrides of.

    Returns:
        The options, and the overrides that are left.

    Raises:
        UserError: If a key is unknown, or a value wrong or missing.
    """
    given: dict[str, Any] = {}
    overrides = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals and Path(text).is_dir():
            raise UserError(f"{text} lacks a '=': write run={text}")
        field = kind.model_fields.get(key)
        if field is None or not equals:
            overrides.append(_override(text, known, kind.model_fields))
        else:
            is_text = field.annotation in (str, str | None)
            given[key] = value if is_text else parse(text).value()
    try:
        return kind.model_validate(given), overrides
    except ValidationError as error:
        raise UserError(first_line(error)) from error


def _override(text: str, known: Collection[str], own: Collection[str]) -> str:
    override = parse(text)
    key = override.key_or_group
    section = key.replace("/", ".").partition(".")[0]
    if section not in {name.partition(".")[0] for name in known}:
        owners = [name for name in sorted(known) if name.endswith(f".{key}")]
        meant = f"; did you mean {owners[0]}?" if owners else hint(key, {*known, *own})
        raise UserError(f"there is no key {key}{meant}")
    if is_sweep(override):
        raise UserError(f"{text} stands for several values: quote it if it is one")
    return text
