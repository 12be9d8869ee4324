"""The keys of ``sweep``: how many runs are run, not what each of them is."""

from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bitladder.cli.suggest import hint
from bitladder.cli.validate import first_line
from bitladder.errors import UserError

Positive = Annotated[int, Field(ge=1)]


def _without_nulls(objectives: Any) -> Any:
    if isinstance(objectives, dict):
        return {name: way for name, way in objectives.items() if way is not None}
    return objectives


class Settings(BaseModel):
    """What they share: no key that is not known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PruneSettings(Settings):
    """When a run is given up; see :class:`bitladder.callbacks.StopHopeless`."""

    monitor: str
    mode: Literal["min", "max"] = "max"
    share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    least_runs: Positive = 5
    grace: Annotated[int, Field(ge=0)] = 3


class SearchSettings(Settings):
    """How a search goes."""

    sampler: str = "tpe"
    seed: Annotated[int, Field(ge=0)] = 1
    trials: Positive = 20
    objectives: Annotated[
        dict[str, Literal["maximize", "minimize"]],
        Field(min_length=1),
        BeforeValidator(_without_nulls),
    ]
    """By the names of what runs measure; ``null`` takes one out."""
    prune: PruneSettings | None = None


class SweepSettings(Settings):
    """How a sweep goes; conf/sweep/default.yaml says what each key is for."""

    name: Annotated[str, Field(pattern=r"^\w[\w.+=,-]*$")] | None = None
    params: dict[str, Any] = {}
    when: dict[str, list[str]] = {}
    jobs: Positive = 1
    retries: Annotated[int, Field(ge=0)] = 0
    on_failure: Literal["continue", "stop"] = "continue"
    extend: bool = False
    search: SearchSettings | None = None


def read_settings(composed: DictConfig) -> SweepSettings:
    """Check the ``sweep`` node of a composed configuration.

    Raises:
        UserError: If a key is unknown or its value wrong.
    """
    node = OmegaConf.to_container(composed.sweep, resolve=True, throw_on_missing=True)
    try:
        return SweepSettings.model_validate(node)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("sweep", *map(str, first["loc"])))
        if first["type"] == "extra_forbidden":
            known = SweepSettings.model_fields
            raise UserError(
                f"there is no key {where}{hint(str(first['loc'][-1]), known)}"
            ) from error
        raise UserError(f"sweep.{first_line(error)}") from error
