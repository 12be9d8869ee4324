"""Whether a value from a configuration is what a parameter's annotation says."""

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation

# What can be written in a configuration, beside which other types of a union need no mention.
_WRITABLE = {
    NoneType: "null",
    bool: "true or false",
    int: "int",
    float: "float",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}


def annotation(target: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """A parameter's annotation as a type; ``Any`` where there is none or it cannot be resolved."""
    if parameter.annotation is parameter.empty:
        return Any
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    module = sys.modules.get(getattr(target, "__module__", ""), None)
    namespace = getattr(function, "__globals__", None) or vars(module or SimpleNamespace())
    # One by one: a name that is there only for type checkers must not hide the other annotations.
    holder = SimpleNamespace(__annotations__={"value": parameter.annotation})
    try:
        return get_type_hints(holder, globalns=dict(namespace))["value"]
    except (AttributeError, NameError, SyntaxError, TypeError):
        return Any


def fits(value: Any, expected: Any) -> bool:
    """Whether a plain value is of a type, read strictly: an int is a float, text is no number."""
    # pydantic would make a dataclass of keys; who builds the node passes them on as they are.
    if is_dataclass(expected):
        return False
    try:
        adapter = TypeAdapter(
            expected, config=ConfigDict(arbitrary_types_allowed=True, strict=True)
        )
    except (PydanticUserError, PydanticUndefinedAnnotation):  # a type that pydantic cannot check
        return True
    try:
        # As JSON a list may be a tuple and text a path, which strict Python objects may not.
        read = adapter.validate_json(json.dumps(value))
    except ValidationError:
        return False
    return isinstance(read, Mapping) or not isinstance(value, Mapping)


def described(expected: Any) -> str:
    """A type in the words of somebody who writes a configuration."""
    origin = get_origin(expected)
    if origin is Literal:
        return ", ".join(shown(choice) for choice in get_args(expected))
    if origin in (Union, UnionType):
        members = get_args(expected)
        writable = [m for m in members if m in _WRITABLE or get_origin(m) is not None]
        return " or ".join(dict.fromkeys(described(member) for member in writable or members))
    if origin in (list, tuple, Iterable, Sequence) and (items := get_args(expected)):
        inner = [described(item) for item in items if item is not Ellipsis]
        return f"a list of {', '.join(dict.fromkeys(inner))}"
    base = origin or expected
    return _WRITABLE.get(base) or getattr(base, "__name__", str(base))


def shown(value: Any) -> str:
    """A value as the user wrote it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
