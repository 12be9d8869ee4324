"""From a finished run's configuration to one that can be built here, now."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bitladder.cli.finished import FinishedRun
from bitladder.cli.overrides import parse
from bitladder.cli.schema import Config
from bitladder.cli.trust import check_trusted
from bitladder.cli.validate import validate
from bitladder.errors import UserError

BUILT = ("data", "model", "task", "optimizer", "scheduler")
"""What is built of a run that is over: its model and its data. The rest trained it."""


def reopen(
    run: FinishedRun,
    *,
    allow: Collection[str],
    data: Sequence[str],
    replaced: Mapping[str, Any] | None = None,
    built: Collection[str] = BUILT,
) -> Config:
    """Check a run's configuration, with what the user changes in it.

    Args:
        run: The run.
        allow: Packages that its configuration may name beside bitladder's own parts.
        data: Overrides of its data, such as ``data.root=FOLDER``: another machine has other paths.
        replaced: Whole sections that the user gives instead of the run's.
        built: The sections of the run's that are going to be built.

    Raises:
        UserError: If it names code that is not allowed, or something in it is wrong.
    """
    check_trusted(run.values, built, allow)
    values = {**run.values, **(replaced or {})}
    values["data"] = _overridden(values.get("data"), data)
    return validate(values, {*built, *(replaced or {})})


def _overridden(node: Any, overrides: Sequence[str]) -> Any:
    node = copy.deepcopy(node)
    for text in overrides:
        override = parse(text)
        keys = override.key_or_group.split(".")[1:]
        if not keys or not isinstance(node, dict):
            raise UserError(f"{text}: the run says which data it has; write data.KEY=VALUE")
        *parents, key = keys
        inner = node
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"{text}: {parent} has no keys")
        if override.is_delete():
            inner.pop(key, None)
        else:
            inner[key] = override.value()
    return node
