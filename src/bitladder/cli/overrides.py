"""One override of the command line: its grammar is Hydra's, its messages are ours."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, OverrideParseException

from bitladder.cli.configs import conf_dir, groups
from bitladder.errors import UserError


def parse(text: str) -> Override:
    """Parse ``key=value``.

    Raises:
        UserError: If it cannot be parsed.
    """
    if "=" not in text and not text.startswith("~"):
        owners = [group for group, choices in groups(conf_dir()).items() if text in choices]
        meant = " or ".join(f"{owner}={text}" for owner in owners or ["KEY"])
        raise UserError(f"{text} lacks a '=': write {meant}")
    if text.startswith("="):
        raise UserError(f"{text} lacks a key: write KEY{text}")
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        # A parse exception's first line repeats the override, its last one is an address.
        lines = str(error).splitlines()
        reason = lines[1] if isinstance(error, OverrideParseException) else lines[0]
        raise UserError(
            f"{text} cannot be parsed: {reason}; quote the value if it is text"
        ) from error
    override.config_loader = _config_loader()
    return override


def _config_loader() -> ConfigLoader | None:
    """What knows the choices that ``glob()`` is about; only while Hydra is set up."""
    hydra = GlobalHydra.instance()
    return hydra.config_loader() if hydra.is_initialized() else None


def quoted(text: str) -> str:
    """Text as a value, whatever is in it."""
    escaped = text.replace("'", r"\'")
    return f"'{escaped}'"


def opened(override: Override) -> str:
    """The override as text that also adds a key that is not there yet."""
    text = override.input_line or ""
    return f"++{text}" if override.type is OverrideType.CHANGE else text


def values(override: Override) -> list[Any]:
    """The choices that a group's override names: one, or those of a list or a sweep."""
    if is_sweep(override):
        return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
    value = override.value()
    return value if isinstance(value, list) else [value]


def is_sweep(override: Override) -> bool:
    """Whether the override stands for several values, a run for each."""
    return override.is_sweep_override()


def combinations(overrides: Sequence[str]) -> Iterator[list[str]]:
    """What each run of a sweep gets, for the values that can be listed; others are left out.

    Raises:
        UserError: If an override cannot be parsed, or stands for no value at all.
    """
    parsed = [parse(text) for text in overrides]
    listed = {
        text: override
        for text, override in zip(overrides, parsed, strict=True)
        if not is_sweep(override) or override.is_discrete_sweep()
    }
    axes = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_discrete_sweep()
        else [text]
        for text, override in listed.items()
    ]
    for text, axis in zip(listed, axes, strict=True):
        if not axis:
            raise UserError(f"{text.lstrip('+')} stands for no value: write one or more")
    return map(list, itertools.product(*axes))
