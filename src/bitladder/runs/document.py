"""What the JSON files of a run have in common: a version, a form, a published schema."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema

from bitladder.errors import UserError
from bitladder.runs.files import read_json

_WORDS = ("NaN", "Infinity", "-Infinity")
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": list(_WORDS)}]}


def _no_other(value: object) -> object:
    """Pydantic would take ``true`` and ``"0.9"``, too."""
    if isinstance(value, bool) or (isinstance(value, str) and value not in _WORDS):
        raise ValueError("it is no number")
    return value


Number = Annotated[float, BeforeValidator(_no_other), WithJsonSchema(_NUMBER)]
"""A float as `bitladder.runs.files.write_json` writes it: JSON has no NaN and no infinity."""


class Part(BaseModel):
    """A part of a file. Keys that a later version added are ignored."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Document(Part):
    """A whole file."""

    versions: ClassVar[Collection[int]] = (1,)
    """The values of `schema_version` that can be read; the newest is the one that is written."""

    schema_version: int
    """Of the file's form."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Check plain JSON types.

        Raises:
            UserError: A key is missing or of a wrong type, or the version is not one of ours.
        """
        check_version(value, cls.versions)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise incomplete(error) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            UserError: It is missing, cut short, of another version, or not what a run writes.
        """
        value = read_json(path)
        try:
            return cls.from_json(value)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def check_version(value: Mapping[str, Any], versions: Collection[int]) -> None:
    """Refuse a file of a form that is not ours.

    Raises:
        UserError: Names the version that the file has and those that can be read.
    """
    version = value.get("schema_version")
    if type(version) is not int or version not in versions:
        known = " or ".join(map(str, sorted(versions)))
        raise UserError(
            f"it has schema_version {version}, and this bitladder reads {known}: read it with the"
            " version that wrote it"
        )


def incomplete(error: ValidationError) -> UserError:
    """What pydantic found first, in one line."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return UserError(f"it is not whole: {key}: {first['msg']}")
