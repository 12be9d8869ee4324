"""Objects as what a checkpoint may hold, with the objects that they share.

A value is a graph: two attributes may hold one list, and a list may hold a tensor that an optimizer
holds as well. An object that another process makes, too, is known by a path, such as where a
constructor put it; what a checkpoint says of it is written into the object that has its path there.
"""

import hashlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitladder.paths import leads_out

DEPTH = 50
"""Containers in one another, beyond which nothing is written: writing and reading recurse."""

_NUMBER = 8
"""Bytes."""

SCALARS = (type(None), bool, int, float, complex, torch.dtype, torch.device)
_FACTORIES: dict[str, Callable[[], Any]] = {
    kind.__name__: kind for kind in (list, dict, set, int, float, str, bool)
}
_TENSORS: dict[type, str] = {Tensor: "tensor", nn.Parameter: "parameter"}
_SEQUENCES: dict[type, str] = {list: "list", set: "set", deque: "deque"}
_MAPPINGS: dict[type, str] = {
    dict: "dict",
    OrderedDict: "ordered",
    Counter: "counter",
    defaultdict: "defaults",
}
_FROZEN: dict[type, str] = {tuple: "tuple", frozenset: "frozenset", torch.Size: "size"}
_ARRAYS = "biufcmM"
"""The kinds of arrays of numbers and times; texts might be paths, others are no plain values."""


class NotPlainError(ValueError):
    """A value is, or holds, an object of another type; its name is the message."""


class Packer:
    """Writes values down as plain containers, and what they share once.

    Args:
        paths: The path of each object that another process has, too, by its ``id``.
        named: The name of each parameter and buffer, by its ``id``.
        live: Addresses of the memory of parameters and buffers: a copy would be something else.
    """

    def __init__(
        self,
        paths: Mapping[int, str] | None = None,
        named: Mapping[int, str] | None = None,
        live: Collection[int] = (),
    ) -> None:
        self._paths, self._named, self._live = paths or {}, named or {}, live
        self._numbers: dict[int, int] = {}
        self._depth = 0
        self._kept: list[object] = []  # so that nothing else comes to their addresses

    def pack(self, value: Any) -> Any:
        """A copy of a value, its tensors on the CPU and without history.

        Raises:
            NotPlainError: If it holds something else than numbers, texts, tensors, arrays of
                NumPy's, lists, tuples, sets, deques and dicts, or more than `DEPTH` of these in one
                another. Nothing is written of it then.
        """
        before, self._depth = len(self._kept), 0
        try:
            return self._pack(value)
        except BaseException:
            for lost in self._kept[before:]:
                del self._numbers[id(lost)]
            del self._kept[before:]
            raise

    def _pack(self, value: Any) -> Any:
        self._depth += 1
        if self._depth > DEPTH:
            raise NotPlainError(f"more than {DEPTH} containers in one another")
        packed = self._write(value)
        self._depth -= 1
        return packed

    def _write(self, value: Any) -> Any:
        kind = type(value)
        if kind in SCALARS:
            return value
        if kind is str:
            return _harmless(value)
        if id(value) in self._named:
            return ["named", self._named[id(value)]]
        if kind in _FROZEN:
            return [_FROZEN[kind], [self._pack(x) for x in value]]
        if isinstance(value, np.generic) and value.dtype.kind in _ARRAYS:
            return ["number", value.dtype.str, _content(value)]
        if id(value) in self._numbers:
            return ["same", self._numbers[id(value)]]
        number = self._numbers[id(value)] = len(self._kept)
        self._kept.append(value)
        return ["object", number, self._paths.get(id(value)), *self._describe(value, kind)]

    def _describe(self, value: Any, kind: type) -> list[Any]:
        if kind in _SEQUENCES:
            more = [value.maxlen] if kind is deque else []
            return [_SEQUENCES[kind], [self._pack(x) for x in value], *more]
        if kind in _MAPPINGS:
            items = [[self._pack(key), self._pack(x)] for key, x in value.items()]
            return [_MAPPINGS[kind], items, *(_factory(value) if kind is defaultdict else ())]
        if kind in _TENSORS and _is_dense(value):
            if value.untyped_storage().data_ptr() not in self._live:
                content = value.detach().to("cpu", copy=True)
                learns = value.requires_grad and value.is_leaf
                return [_TENSORS[kind], content, value.device.type == "cpu", learns]
        elif kind is np.ndarray and value.dtype.kind in _ARRAYS:
            return ["array", value.dtype.str, list(value.shape), _content(value)]
        raise NotPlainError(f"{kind.__module__}.{kind.__qualname__}")


class Unpacker:
    """Makes values of what a :class:`Packer` wrote, in its order.

    Args:
        objects: Those that this process has, by their path.
        named: Parameters and buffers by their name.
        device: Where tensors go that were not on the CPU.
    """

    def __init__(
        self,
        objects: Mapping[str, Any] | None = None,
        named: Mapping[str, Tensor] | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._objects, self._named = objects or {}, named or {}
        self._device = device or torch.device("cpu")
        self._made: dict[int, Any] = {}

    def unpack(self, packed: Any) -> Any:
        """The value.

        Raises:
            ValueError: If no :class:`Packer` writes it.
        """
        match packed:
            case str():
                return _harmless(packed)
            case ["named", str(name)] if name in self._named:
                return self._named[name]
            case [("tuple" | "frozenset" | "size") as name, list(items)]:
                made = [self.unpack(x) for x in items]
                return next(kind for kind, x in _FROZEN.items() if x == name)(made)
            case ["number", str(dtype), Tensor() as content]:
                return _array(dtype, [], content)[()]
            case ["same", int(number)] if number in self._made:
                return self._made[number]
            case ["object", int(number), (str() | None) as path, str(name), *rest]:
                return self._object(number, self._objects.get(path or ""), name, rest)
        if type(packed) in SCALARS:
            return packed
        raise ValueError(f"{str(packed)[:40]} is no value that a checkpoint holds")

    def _object(self, number: int, there: Any, name: str, rest: list[Any]) -> Any:
        match name, rest:
            case (("tensor" | "parameter"), [Tensor() as content, bool(on_cpu), bool(grad)]):
                self._made[number] = self._tensor(there, name, content, on_cpu, grad)
            case "array", [str(dtype), list(shape), Tensor() as content]:
                self._made[number] = _fill_array(there, _array(dtype, shape, content))
            case (("list" | "set" | "deque"), [list(items), *more]):
                made = self._made[number] = _empty(_SEQUENCES, there, name, more)
                values = [self.unpack(x) for x in items]
                made.clear()
                made.update(values) if isinstance(made, set) else made.extend(values)
            case (("dict" | "ordered" | "counter" | "defaults"), [list(items), *more]):
                made = self._made[number] = _empty(_MAPPINGS, there, name, more)
                pairs = [(self.unpack(key), self.unpack(x)) for key, x in items]
                made.clear()
                for key, value in pairs:
                    made[key] = value
            case _:
                raise ValueError(f"{name} is no object that a checkpoint holds")
        return self._made[number]

    def _tensor(self, there: Any, name: str, content: Tensor, on_cpu: bool, grad: bool) -> Tensor:
        _check_size(content)
        if _TENSORS.get(type(there)) == name and _alike(there, content):
            with torch.no_grad():
                return there.copy_(content)
        made = content.to("cpu" if on_cpu else self._device, copy=True)
        if name == "parameter":
            return nn.Parameter(made, requires_grad=grad)
        return made.requires_grad_(grad)


def digest(packed: Any) -> bytes:
    """SHA-256 of what a :class:`Packer` wrote."""
    content = hashlib.sha256()
    _feed(content, packed)
    return content.digest()


def size_of(value: Any) -> int:
    """Bytes of what a value holds, roughly, and of tensors as often as they are there."""
    left, seen, size = [value], set(), 0
    while left:
        item = left.pop()
        kind = type(item)
        if issubclass(kind, Tensor | np.ndarray):
            size += item.nbytes
        elif kind in (*_MAPPINGS, *_SEQUENCES, *_FROZEN) and id(item) not in seen:
            seen.add(id(item))
            left += item.values() if kind in _MAPPINGS else item
        else:
            size += len(item) if kind is str else _NUMBER
    return size


def _feed(content: Any, packed: Any) -> None:
    if isinstance(packed, Tensor):
        content.update(f"{packed.dtype}{tuple(packed.shape)}".encode())
        content.update(packed.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(packed, list):
        content.update(b"[")
        for x in packed:
            _feed(content, x)
        content.update(b"]")
    else:
        content.update(f"{type(packed).__name__} {packed!r},".encode())


def _harmless(text: str) -> str:
    """A text that is no path elsewhere: a checkpoint may be somebody else's."""
    if leads_out(text):
        raise NotPlainError("path")
    return text


def _is_dense(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_quantized and value.device.type != "meta"


def _check_size(content: Tensor) -> None:
    if not _is_dense(content) or content.nbytes > content.untyped_storage().nbytes():
        raise ValueError("a tensor of a checkpoint is larger than its file")


def _alike(there: Tensor, content: Tensor) -> bool:
    same = there.shape == content.shape and there.dtype == content.dtype
    return same and not there.is_inference() and 0 not in there.stride()


def _content(value: Any) -> Tensor:
    flat = np.ascontiguousarray(value).reshape(-1)
    return torch.from_numpy(flat.view(np.uint8).copy())


def _array(dtype: str, shape: list[int], content: Tensor) -> np.ndarray[Any, Any]:
    kind = np.dtype(dtype)
    if kind.kind not in _ARRAYS:
        raise ValueError(f"an array of {dtype} is none that a checkpoint holds")
    _check_size(content)
    return np.frombuffer(content.numpy().tobytes(), dtype=kind).copy().reshape(shape)


def _fill_array(there: Any, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    same = type(there) is np.ndarray and (there.shape, there.dtype) == (value.shape, value.dtype)
    if not same or not there.flags.writeable or 0 in there.strides:
        return value
    there[...] = value
    return there


def _factory(value: defaultdict[Any, Any]) -> list[str | None]:
    factory = value.default_factory
    if factory is None:
        return [None]
    name = getattr(factory, "__name__", "")
    if _FACTORIES.get(name) is not factory:
        raise NotPlainError(f"defaultdict of {name or factory}")
    return [name]


def _empty(kinds: Mapping[type, str], there: Any, name: str, more: list[Any]) -> Any:
    """The object that is there, if it is of this kind, or one without elements."""
    kind = next(kind for kind, x in kinds.items() if x == name)
    if type(there) is kind and (kind is not deque or [there.maxlen] == more):
        return there
    if kind is defaultdict:
        (factory,) = more
        return defaultdict(None if factory is None else _FACTORIES[factory])
    return deque(maxlen=more[0]) if kind is deque else kind()
