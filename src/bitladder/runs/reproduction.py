"""Two runs of one configuration, compared to the bit."""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bitladder.runs.series import Series
from bitladder.runs.trace import Trace

SCHEMA_VERSION = 1

MACHINE = (
    "packages",
    "python",
    "platform",
    "hardware",
    "conditions",
    "precision",
    "git",
    "lock_sha256",
)
"""What of a manifest can explain a difference."""

MISSING = "nothing"

LONGEST = 200
"""Characters of a value that is shown: somebody else wrote it."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not the same.

    Attributes:
        part: Of which part of the run: ``metrics``, ``weights``, ``rungs``, ...
        name: The metric or tensor.
        step: The trainer's step, of a metric.
        recorded: What the first run has.
        here: What its repetition has.
    """

    part: str
    name: str
    step: int | None = None
    recorded: str
    here: str

    def __str__(self) -> str:
        step = "" if self.step is None else f"step {self.step}, "
        return (
            f"{self.part}: {step}{shown(self.name)}: {shown(self.recorded)} recorded,"
            f" {shown(self.here)} here"
        )


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """How a run compares with its repetition.

    Attributes:
        compared: How many values or tensors of each part were compared.
        not_compared: Parts of which the first run has nothing.
        differences: The first of ``metrics`` by step, and all of the other parts.
        machine: What differs in where they ran: by place in the manifest, recorded and here.
    """

    compared: dict[str, int]
    not_compared: list[str]
    differences: list[Difference]
    machine: dict[str, tuple[Any, Any]]

    @property
    def identical(self) -> bool:
        """Whether all that was compared is the same to the bit."""
        return not self.differences

    def to_json(self) -> dict[str, object]:
        """Plain JSON types, for `write_json(run.reproduction, ...)`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "identical": self.identical,
            "compared": self.compared,
            "not_compared": self.not_compared,
            "differences": [asdict(difference) for difference in self.differences],
            "machine": {
                key: {"recorded": recorded, "here": here}
                for key, (recorded, here) in self.machine.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """What to tell: what was compared, and the first difference of each part if there is one.

        The last line is ``identical``, or says that the runs are not.
        """
        counts = ", ".join(f"{count} of {part}" for part, count in self.compared.items() if count)
        yield f"compared to the bit: {counts}"
        if self.not_compared:
            yield f"not compared, as the run left none: {', '.join(self.not_compared)}"
        if self.identical:
            yield "identical"
            return
        told: dict[str, int] = {}
        for difference in self.differences:
            told[difference.part] = told.get(difference.part, 0) + 1
            if told[difference.part] == 1:
                yield str(difference)
        for part, count in told.items():
            if count > 1:
                yield f"{part}: {count} of {self.compared[part]} differ"
        for key, (recorded, here) in self.machine.items():
            yield f"machine: {shown(key)}: {shown(recorded)} recorded, {shown(here)} here"
        if not self.machine:
            yield "machine: the manifests differ in nothing that could explain it"
        yield "not identical"


def compare(
    recorded: Trace, here: Trace, manifests: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> Reproduction:
    """Compare two runs.

    Args:
        recorded: What the first run left.
        here: What its repetition left.
        manifests: Of both, in this order.
    """
    compared = {"metrics": sum(map(len, recorded.metrics.values()))}
    differences = []
    if recorded.metrics and (first := _first(recorded.metrics, here.metrics)) is not None:
        differences.append(first)
    for part, names in recorded.tensors.items():
        compared[part] = len(names)
        others = here.tensors.get(part, {})
        for name in dict.fromkeys([*names, *others]) if names else ():
            before, now = names.get(name, MISSING), others.get(name, MISSING)
            if before != now:
                differences.append(Difference(part=part, name=name, recorded=before, here=now))
    return Reproduction(
        compared=compared,
        not_compared=[part for part, count in compared.items() if not count],
        differences=differences,
        machine=elsewhere(*manifests),
    )


def shown(value: object) -> str:
    """Text of a foreign file on the terminal: no control characters, not too much of it."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _first(recorded: Mapping[str, Series], here: Mapping[str, Series]) -> Difference | None:
    """The metric that differs at the earliest step."""
    empty = Series()
    found = [
        difference
        for key in dict.fromkeys([*recorded, *here])
        for difference in _differences(key, recorded.get(key, empty), here.get(key, empty))
    ]
    return min(found, key=lambda difference: difference.step or 0, default=None)


def _differences(key: str, recorded: Series, here: Series) -> Iterator[Difference]:
    """The first difference of one key, if there is one."""
    for index in range(max(len(recorded), len(here))):
        before, now = _at(recorded, index), _at(here, index)
        if before[0] != now[0] or _bits(before[1]) != _bits(now[1]):
            step = min(step for step, _ in (before, now) if step is not None)
            told = [
                MISSING if value is None else f"{value!r}{f' at step {s}' if s != step else ''}"
                for s, value in (before, now)
            ]
            yield Difference(part="metrics", name=key, step=step, recorded=told[0], here=told[1])
            return


def _at(series: Series, index: int) -> tuple[int | None, float | None]:
    if index >= len(series):
        return None, None
    return series.steps[index], series.values[index]


def _bits(value: float | None) -> bytes | None:
    """NaN is itself, and -0.0 is not 0.0."""
    return None if value is None else struct.pack("<d", value)


def _comparable(
    recorded: Mapping[str, Any], here: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both manifests say of the machine; older ones say less."""
    keys = [key for key in MACHINE if key in recorded and key in here]
    return {key: recorded[key] for key in keys}, {key: here[key] for key in keys}


def elsewhere(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two machines, by place in the manifests.

    Args:
        recorded: A manifest, or a part of it.
        here: The same of this machine.
    """
    return dict(_machine(*_comparable(recorded, here), ""))


def _machine(recorded: Any, here: Any, where: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(recorded, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*recorded, *here]):
            place = f"{where}.{key}" if where else str(key)
            yield from _machine(recorded.get(key), here.get(key), place)
    elif recorded != here:
        yield where, (recorded, here)
