"""Random generators that somebody made: of loaders, samplers, data sets, modules and callbacks."""

import random
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitladder.callbacks.attributes import FRAMEWORKS
from bitladder.callbacks.generators import Generator
from bitladder.callbacks.plain_graph import Packer, Unpacker

LONG = 1000
"""Elements of a container that holds data, and no generators."""

_LEAVES = (str, bytes, int, float, complex, type(None), type, ModuleType, Tensor, np.ndarray)


def find(roots: Iterable[object]) -> list[Generator]:
    """The generators that can be reached, each once, in an order that any process finds them in.

    Through attributes, containers of up to `LONG` elements, partial and bound functions, what
    functions close over, and global variables that they and the methods of classes name. The
    libraries' own global generators are not among them.
    """
    found: list[Generator] = []
    seen: dict[int, object] = {}  # which keeps them, so that no other comes to their address
    left: list[Any] = list(reversed(list(roots)))
    apart = {id(root) for root in left}
    while left:
        value = left.pop()
        if issubclass(type(value), _LEAVES) or id(value) in seen:
            continue
        seen[id(value)] = value
        if issubclass(type(value), Generator):
            if not _is_global(value):
                found.append(value)
        elif id(value) in apart or not str(type(value).__module__).startswith("lightning."):
            left += reversed(_below(value))
    return found


def states(generators: Sequence[Generator]) -> list[Any]:
    """Where they stand, as tensors and plain containers."""
    return [_state(generator) for generator in generators]


def set_states(generators: Sequence[Generator], states: Sequence[Any]) -> bool:
    """Put them where as many of the same kinds stood.

    Returns:
        Whether they are as many; nothing has changed otherwise.

    Raises:
        ValueError: If one cannot stand there. So do NumPy and PyTorch raise.
    """
    if len(generators) != len(states):
        return False
    for generator, state in zip(generators, states, strict=True):
        _set_state(generator, state)
    return True


def _state(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return Packer().pack(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return Packer().pack(generator.get_state(legacy=False))
    return Packer().pack(generator.getstate())


def _set_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = Unpacker().unpack(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(Unpacker().unpack(state))
    else:
        generator.setstate(Unpacker().unpack(state))


def _is_global(generator: Generator) -> bool:
    """Whether it is a library's, of which other code takes care, or draws from the system."""
    shared = (torch.default_generator, *torch.cuda.default_generators)
    numpys, pythons = np.random.mtrand._rand, random._inst  # type: ignore[attr-defined]
    is_system = isinstance(generator, random.SystemRandom)
    return is_system or any(generator is x for x in (*shared, numpys, pythons))


def _below(value: Any) -> list[object]:
    """What a value holds that may hold a generator."""
    own = type(value)  # A proxy gives itself another class, or none.
    if issubclass(own, FunctionType):
        return _of_function(value)
    if issubclass(own, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if issubclass(own, MethodType):
        return [value.__self__, value.__func__]
    below: list[object] = []
    if issubclass(own, list | tuple | dict | deque) and len(value) <= LONG:
        below += value.values() if issubclass(own, dict) else value
    below += _attributes(value)
    for kind in own.__mro__:
        if str(kind.__module__).partition(".")[0] not in {*FRAMEWORKS, "builtins"}:
            below += _of_class(kind)
    return below


def _attributes(value: object) -> list[object]:
    try:
        slots = (x for kind in type(value).__mro__ for x in vars(kind).get("__slots__", ()))
        held = [getattr(value, x) for x in slots if hasattr(value, x)]
        return [*held, *getattr(value, "__dict__", {}).values()]
    except Exception:  # a proxy that stands for nothing now
        return []


def _of_class(kind: type) -> list[object]:
    values = vars(kind).values()
    functions = (getattr(x, "__func__", x) for x in values)  # of static and class methods
    return [*(x for x in functions if isinstance(x, FunctionType | Generator))]


def _of_function(function: FunctionType) -> list[object]:
    named = (function.__globals__.get(name) for name in _names(function.__code__))
    users = str(function.__module__).partition(".")[0] not in FRAMEWORKS
    return [
        *(x for cell in function.__closure__ or () for x in _contents(cell)),
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
        *(x for x in named if isinstance(x, Generator) or (users and _is_beside(x, function))),
    ]


def _is_beside(value: object, function: FunctionType) -> bool:
    """Whether it is a function of the same file."""
    return isinstance(value, FunctionType) and value.__module__ == function.__module__


def _names(code: CodeType) -> list[str]:
    """What a function names, and the comprehensions and functions in it."""
    inner = (x for x in code.co_consts if isinstance(x, CodeType))
    return [*code.co_names, *(name for x in inner for name in _names(x))]


def _contents(cell: CellType) -> list[object]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []
