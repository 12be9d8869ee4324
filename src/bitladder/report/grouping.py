"""Runs that differ in their seed alone, together."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bitladder.report.style import plain
from bitladder.runs import Rung, RunRecord
from bitladder.runs.reading import lookup

ACCURACY = "test/accuracy"


@dataclass(frozen=True, order=True)
class Recipe:
    """What runs have in common that differ in their seed alone.

    Attributes:
        task: Data and model, ``digits, resnet``: runs of different tasks are not compared.
        precision: How they trained.
        quantization: How they became integer.
    """

    task: str
    precision: str
    quantization: str

    @property
    def label(self) -> str:
        """The recipe without its task, as plotly shows it letter by letter."""
        return plain(f"{self.precision} + {self.quantization}")


@dataclass(frozen=True)
class Point:
    """One measured rung of one recipe, over its seeds.

    Attributes:
        recipe: Of the runs.
        rung: ``float``, ``int8``.
        rungs: The rung of each seed.
    """

    recipe: Recipe
    rung: str
    rungs: dict[int, Rung]

    def values(self, key: str) -> dict[int, float]:
        """What was measured, by seed: a metric, ``size_bytes`` or ``latency_ms/batch_1``.

        Seeds without it, or with what is no finite number, are left out.
        """
        found = {seed: measured(rung, key) for seed, rung in self.rungs.items()}
        return {s: x for s, x in found.items() if x is not None and math.isfinite(x)}


def by_recipe(records: Sequence[RunRecord]) -> dict[Recipe, list[RunRecord]]:
    """Completed runs by recipe, in the order in which these first appear."""
    groups: dict[Recipe, list[RunRecord]] = {}
    for record in records:
        if record.state == "completed" and record.rungs:
            groups.setdefault(recipe_of(record), []).append(record)
    return groups


def recipe_of(record: RunRecord) -> Recipe:
    """A run's recipe."""
    names = (lookup(record.config, "choices", group) for group in ("data", "model"))
    task = ", ".join(str(name) for name in names if name) or record.experiment or "runs"
    return Recipe(task, record.precision_name or "?", record.quantization_name or "?")


def points(records: Sequence[RunRecord]) -> Iterator[Point]:
    """Every rung of every recipe; of runs of one seed the last counts."""
    for recipe, runs in by_recipe(records).items():
        names = dict.fromkeys(name for run in runs for name in run.rungs)
        for name in names:
            seeds = {
                run.seed if run.seed is not None else -1 - index: run.rungs[name]
                for index, run in enumerate(runs)
                if name in run.rungs
            }
            yield Point(recipe, name, seeds)


def tasks(records: Sequence[RunRecord]) -> list[str]:
    """The tasks of the completed runs."""
    return list(dict.fromkeys(recipe.task for recipe in by_recipe(records)))


def measured(rung: Rung, key: str) -> float | None:
    """One figure of a rung."""
    if key == "size_bytes":
        return float(rung.size_bytes)
    if key.startswith("latency_ms/"):
        return rung.latency_ms.get(key.removeprefix("latency_ms/"))
    return rung.metrics.get(key)
