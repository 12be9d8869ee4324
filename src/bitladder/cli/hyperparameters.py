"""What tells one run from another, as flat columns."""

from collections.abc import Iterator, Mapping
from typing import Any

from bitladder.cli.schema import Config

SECTIONS = (
    "data",
    "model",
    "task",
    "optimizer",
    "scheduler",
    "precision",
    "quantization",
    "trainer",
)
"""What of a configuration is a hyperparameter: not where things are written, nor who watches."""


def hyperparameters(config: Config) -> dict[str, float | str]:
    """A column for every value: ``seed``, ``model``, ``model/depths``, ``optimizer/lr``.

    A group's own column is its choice (``model``: ``resnet``). Lists and booleans are text, and
    what is null has no column.
    """
    columns: dict[str, Any] = {"seed": config.seed, "experiment": config.experiment}
    for section in SECTIONS:
        columns[section] = config.choices.get(section)
        columns |= _leaves(getattr(config, section) or {}, section)
    return {
        key: value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        for key, value in columns.items()
        if value is not None
    }


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}/{key}")
        elif key not in ("_target_", "_partial_"):
            yield f"{prefix}/{key}", value
