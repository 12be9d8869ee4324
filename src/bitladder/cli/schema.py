"""The typed schema of a configuration: its top level. Nodes are checked by their signatures."""

import re
from typing import Annotated, Any, Self

from omegaconf import OmegaConf
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bitladder.cli.suggest import hint
from bitladder.errors import UserError

LARGEST_SEED = 2**32 - 1

Node = dict[str, Any]


def _empty_is_none(node: Any) -> Any:
    return node or None


def _without_nulls(nodes: Any) -> Any:
    """``callbacks.progress=null`` takes one out; ``callbacks=null`` takes all."""
    if isinstance(nodes, dict):
        return {name: node for name, node in nodes.items() if node is not None}
    return {} if nodes is None else nodes


def _fit_for_a_folder(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+=,-]*", name):
        raise UserError(f"name={name}: write letters, digits and any of _ . + = , -")
    return name


def _known_paths(paths: dict[str, str]) -> dict[str, str]:
    needed = ("runs", "sweeps")
    known = (*needed, "mlflow")
    for key in paths:
        if key not in known:
            raise UserError(f"paths has no {key}{hint(key, known)}")
    for key in needed:
        if key not in paths:
            raise UserError(f"paths.{key} is missing: write paths.{key}=FOLDER")
    return paths


Nodes = Annotated[dict[str, Node], BeforeValidator(_without_nulls)]


class Config(BaseModel):
    """A checked configuration. What the program builds objects from stays plain containers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)]
    """Fixes everything that is drawn at random."""
    name: Annotated[str, AfterValidator(_fit_for_a_folder)]
    """The run's name: by default the experiment's. A part of a folder's name."""
    checkpoint: str | None = None
    """A checkpoint to start from."""
    report: bool = True
    """Whether a completed run leaves ``report.html``."""
    data: Node
    model: Node
    task: Node
    optimizer: Node
    scheduler: Annotated[Node | None, BeforeValidator(_empty_is_none)] = None
    precision: Node
    quantization: Node
    trainer: Node
    callbacks: Nodes = {}
    logger: Nodes = {}
    paths: Annotated[dict[str, str], AfterValidator(_known_paths)]
    """``runs``, ``sweeps`` and ``mlflow``: the folders that they go to."""
    choices: dict[str, str] = {}
    """The choice of every configuration group: ``{"model": "resnet", ...}``."""

    @property
    def experiment(self) -> str | None:
        """The choice of ``experiment``, if there is one."""
        return self.choices.get("experiment")

    @property
    def precision_name(self) -> str:
        """The choice of ``precision``, or the plugin's class where it is no shipped one."""
        return self.choices.get("precision") or str(self.precision.get("_target_"))

    @property
    def quantization_name(self) -> str:
        """The choice of ``quantization``, or the method where it is no shipped one."""
        return self.choices.get("quantization") or str(self.quantization.get("method"))

    @property
    def run_name(self) -> str:
        """What the run's folder is called, before the time."""
        return "-".join((self.name, self.precision_name, self.quantization_name, f"s{self.seed}"))

    def in_folder(self, runs: str) -> Self:
        """The same with its run directory in another folder."""
        return self.model_copy(update={"paths": {**self.paths, "runs": runs}})

    def to_yaml(self) -> str:
        """The whole configuration, resolved; ``validate`` takes it back."""
        return OmegaConf.to_yaml(OmegaConf.create(self.model_dump()))
