"""Values of many types as what a checkpoint may hold: tensors, numbers, texts and lists of them."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

PLAIN = (type(None), bool, int, float, complex, str, torch.dtype, torch.device)
_SEQUENCES: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
_MAKERS: dict[str, Callable[[list[Any]], Any]] = {
    kind.__name__: kind for kind in (list, tuple, set, frozenset)
}


class NotPlainError(Exception):
    """A value is, or holds, an object of another type."""


def pack(value: Any, live: Collection[int] = ()) -> Any:
    """A copy of a value for a checkpoint, its tensors on the CPU and without history.

    Args:
        value: A number, text, tensor or array of NumPy's, or a list, tuple, set, deque or dict.
        live: Addresses of storages of which a copy would be something else, such as of parameters.

    Raises:
        NotPlainError: If it is, or holds, anything else.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind in _SEQUENCES:
        return [_SEQUENCES[kind], [pack(x, live) for x in value]]
    if kind in _MAPPINGS:
        return ["dict", [[pack(key, live), pack(x, live)] for key, x in value.items()]]
    if kind is deque:
        return ["deque", [pack(x, live) for x in value], value.maxlen]
    if kind is Tensor and _is_dense(value) and value.untyped_storage().data_ptr() not in live:
        return ["tensor", value.detach().to("cpu", copy=True), value.device.type == "cpu"]
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        content = np.frombuffer(value.tobytes(), dtype=np.uint8).copy()
        shape = list(value.shape) if isinstance(value, np.ndarray) else None
        return ["array", value.dtype.str, shape, torch.from_numpy(content)]
    raise NotPlainError


def size_of(value: Any) -> int:
    """Bytes of the tensors and arrays that a value holds."""
    kind = type(value)
    if issubclass(kind, Tensor | np.ndarray | np.generic):
        return value.nbytes
    if kind in _MAPPINGS:
        return sum(size_of(x) for x in value.values())
    return sum(size_of(x) for x in value) if kind in (*_SEQUENCES, deque) else 0


def unpack(packed: Any, device: torch.device) -> Any:
    """What :func:`pack` was given; a mapping is a ``dict``.

    Args:
        packed: From a checkpoint.
        device: Where tensors go that were not on the CPU.

    Raises:
        ValueError: If :func:`pack` gives nothing like it.
    """
    if not isinstance(packed, list):
        return packed
    match packed:
        case ["dict", list(items)]:
            return {unpack(key, device): unpack(x, device) for key, x in items}
        case ["deque", list(items), int() | None as length]:
            return deque((unpack(x, device) for x in items), length)
        case ["tensor", Tensor() as value, bool(on_cpu)]:
            return value.clone() if on_cpu else value.to(device, copy=True)
        case ["array", str(dtype), list() | None as shape, Tensor() as content]:
            array = np.frombuffer(content.numpy().tobytes(), dtype=np.dtype(dtype)).copy()
            return array[0] if shape is None else array.reshape(shape)
        case [str(kind), list(items)] if kind in _MAKERS:
            return _MAKERS[kind]([unpack(x, device) for x in items])
    raise ValueError(f"{str(packed)[:40]} is no value that a checkpoint holds")


def _is_dense(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_quantized and value.device.type != "meta"
