"""Random generators that somebody made: of loaders, samplers, data sets, modules and callbacks."""

import random
from collections.abc import Iterable, Sequence
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitladder.callbacks.attributes import FRAMEWORKS
from bitladder.callbacks.plain_values import pack, unpack

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random

LONG = 1000
"""Elements of a container that holds data, and no generators."""

_LEAVES = (str, bytes, int, float, complex, type(None), type, ModuleType, Tensor, np.ndarray)
_CPU = torch.device("cpu")


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
    """Put them where :func:`states` of as many of the same kinds was.

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
        return pack(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return pack(generator.get_state(legacy=False))
    return pack(generator.getstate())


def _set_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = unpack(state, _CPU)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(unpack(state, _CPU))
    else:
        generator.setstate(unpack(state, _CPU))


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
    if issubclass(own, list | tuple | dict) and len(value) <= LONG:
        below += value.values() if issubclass(own, dict) else value
    below += _attributes(value)
    for kind in own.__mro__:
        if str(kind.__module__).partition(".")[0] not in {*FRAMEWORKS, "builtins"}:
            below += (x for x in vars(kind).values() if isinstance(x, FunctionType))
    return below


def _attributes(value: object) -> list[object]:
    try:
        return list(vars(value).values())
    except Exception:  # there are none, or a proxy stands for nothing now
        return []


def _of_function(function: FunctionType) -> list[object]:
    named = (function.__globals__.get(name) for name in function.__code__.co_names)
    return [
        *(x for cell in function.__closure__ or () for x in _contents(cell)),
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
        *(x for x in named if isinstance(x, Generator)),
    ]


def _contents(cell: CellType) -> list[object]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []
