"""Finds what a ``_target_`` names, or says what it could have meant."""

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import packages_distributions
from types import ModuleType
from typing import Any

from bitladder.cli.suggest import nearest
from bitladder.errors import UserError


def locate(path: str, where: str) -> Callable[..., Any]:
    """Import what a dotted path names.

    Raises:
        UserError: If there is no such thing, or it cannot be called.
    """
    found = walk(path, where)[-1]
    if not callable(found):
        raise UserError(f"{where}={path} is not a class or function")
    return found


def walk(path: str, where: str) -> list[Any]:
    """Import what a dotted path names: everything on it, the package first.

    Raises:
        UserError: If there is no such thing.
    """
    if not all(part.isidentifier() for part in path.split(".")):
        raise UserError(f"{where}={path}: write the dotted path of a class or function")
    first, *rest = path.split(".")
    found = _import_module(first, where)
    if found is None:
        raise UserError(f"{where}={path}: there is no module {first}{_hint(first, _top_level())}")
    name, passed = first, [found]
    for part in rest:
        outer, name = found, f"{name}.{part}"
        found = getattr(outer, part, None)
        if found is None and isinstance(outer, ModuleType):
            found = _import_module(name, where)
        if found is None:
            raise UserError(f"{where}={path}: there is no {name}{_hint(part, _names(outer))}")
        passed.append(found)
    return passed


def _import_module(name: str, where: str) -> ModuleType | None:
    """The module, or None if there is none of that name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name or name.startswith(f"{error.name}."):
            return None
        raise UserError(f"{where}: importing {name} needs {error.name}, not installed") from error
    except ImportError as error:
        raise UserError(f"{where}: importing {name} failed: {error}") from error


def _hint(name: str, names: set[str]) -> str:
    best = nearest(name, names)
    return f"; did you mean {best}?" if best else ""


def _top_level() -> set[str]:
    return {name for name in packages_distributions() if name.isidentifier()} | {"bitladder"}


def _names(outer: Any) -> set[str]:
    submodules = {module.name for module in pkgutil.iter_modules(getattr(outer, "__path__", []))}
    return {name for name in {*dir(outer), *submodules} if not name.startswith("_")}
