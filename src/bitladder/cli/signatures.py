"""Checks a ``_target_`` node against the signature of what it names, before anything is built."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitladder.cli.annotations import annotation, described, fits, shown
from bitladder.cli.suggest import hint
from bitladder.cli.targets import locate
from bitladder.errors import UserError

SPECIAL_KEYS = {
    "_target_": str,
    "_args_": list,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": str,
}
"""What Hydra reads in a node itself, and of which type."""


@dataclass(frozen=True)
class Supplied:
    """What the program passes to a target beside the node's own arguments."""

    positional: int = 0
    """This many leading parameters."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Parameters that the target must have and the node must not set, and where each comes from."""
    defaults: tuple[str, ...] = ()
    """Parameters that the program fills where the target has them and the node does not."""


def check_node(node: dict[str, Any], where: str, supplied: Supplied | None = None) -> None:
    """Check a node and the nodes inside it.

    Args:
        node: The node.
        where: Its place in the configuration, for messages.
        supplied: What the program adds; a node inside another gets nothing.

    Raises:
        UserError: If its target is missing, cannot be imported, or does not take its arguments.
    """
    if "_target_" not in node:
        raise UserError(f"{where} lacks _target_, the dotted path of a class or function")
    for key in SPECIAL_KEYS.keys() & node.keys():
        if not isinstance(node[key], SPECIAL_KEYS[key]):
            expected = described(SPECIAL_KEYS[key])
            raise UserError(f"{where}.{key}={shown(node[key])}: expected {expected}")
    target = locate(node["_target_"], f"{where}._target_")
    _check_arguments(target, node, where, supplied)
    for key, value in node.items():
        for place, inner in _inner_nodes(value, f"{where}.{key}"):
            check_node(inner, place)


def _check_arguments(
    target: Callable[..., Any], node: dict[str, Any], where: str, supplied: Supplied | None
) -> None:
    given = {key: value for key, value in node.items() if key not in SPECIAL_KEYS}
    extra = supplied or Supplied()
    for name, origin in extra.named.items():
        if name in given:
            raise UserError(f"{where}.{name} comes from {origin}: leave it out here")
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except ValueError:  # some built-in functions tell nobody what they take
        return
    positional = extra.positional + len(node.get("_args_", []))
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    open_parameters = {
        parameter.name: parameter
        for parameter in parameters[positional:]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    for name in extra.named:
        if name not in open_parameters and not takes_any:
            raise UserError(
                f"{where}: {node['_target_']} takes no {name}, which the program passes"
            )
    names = open_parameters.keys() - set(extra.named)
    for name, value in given.items():
        if name in open_parameters:
            _check_value(target, open_parameters[name], value, f"{where}.{name}")
        elif not takes_any:
            raise UserError(f"{where} has no {name}{hint(name, names)}")
    if node.get("_partial_") and supplied is None:
        return
    known = {*given, *extra.named, *extra.defaults}
    for name, parameter in open_parameters.items():
        if parameter.default is parameter.empty and name not in known:
            raise UserError(f"{where}.{name} is missing: {node['_target_']} needs it")


def _check_value(
    target: Callable[..., Any], parameter: inspect.Parameter, value: Any, where: str
) -> None:
    if any(True for _ in _inner_nodes(value, where)):  # built first: not yet what it will be
        return
    if type(value) is type(parameter.default) and value == parameter.default:
        return
    expected = annotation(target, parameter)
    if not fits(value, expected):
        raise UserError(f"{where}={shown(value)}: expected {described(expected)}")


def _inner_nodes(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The outermost nodes with ``_target_`` in a value, with their places."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield where, value
        else:
            for key, item in value.items():
                yield from _inner_nodes(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _inner_nodes(item, f"{where}[{index}]")
