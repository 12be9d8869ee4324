"""Plain attributes that modules and callbacks fill while they train.

``self.outputs.append(loss)`` in ``training_step`` and the like: Lightning saves none of it, so that
an epoch's mean over such a list would be another after a resume in its middle.
"""

import warnings
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from bitladder.callbacks.plain_values import PLAIN, NotPlainError, pack, size_of, unpack

FRAMEWORKS = {"bitladder", "lightning", "torch", "torchao", "torchmetrics"}
"""Whose own classes save what they need."""

LONG = 10_000
"""Elements of a value that is told by its length to have changed, and not by each of them."""

LARGE = 2**28
"""Bytes of a value that is left out, with a warning: checkpoints are written often."""

State = dict[str, dict[str, Any]]

_LIGHTNINGS = {
    *vars(L.LightningModule()),
    *("_hparams", "_hparams_name", "_hparams_initial", "_log_hyperparams", "_compiler_ctx"),
}


class Attributes:
    """What has changed of them since training started, and how to put it back.

    They are those of the module, of modules in it and of callbacks without a ``state_dict``, if
    their class is the user's own, and hold numbers, texts, tensors, arrays, and lists, tuples,
    sets, deques and dicts of them, of up to `LARGE` bytes. Parameters, and what shares their
    memory, are no such values.
    """

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], Any] = {}
        self._told: set[str] = set()

    def note(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Training starts: what there is now is made by constructors and ``setup``."""
        self._before = {
            (name, key): _mark(value)
            for name, holder in _holders(trainer, module)
            for key, value in _attributes(holder)
        }

    def changed(self, trainer: L.Trainer, module: L.LightningModule) -> State:
        """What is another now, packed for a checkpoint, by holder and attribute."""
        live = {
            tensor.untyped_storage().data_ptr()
            for tensors in (module.parameters(), module.buffers())
            for tensor in tensors
            if tensor.layout is torch.strided and tensor.device.type != "meta"
        }
        state: State = {}
        for name, holder in _holders(trainer, module):
            for key, value in _attributes(holder):
                if (name, key) in self._before and self._before[name, key] == _mark(value):
                    continue
                if size_of(value) > LARGE:
                    self._warn(f"{name}.{key}", size_of(value))
                    continue
                try:
                    state.setdefault(name, {})[key] = pack(value, live)
                except NotPlainError:
                    continue
        return state

    def _warn(self, place: str, size: int) -> None:
        if place not in self._told:
            self._told.add(place)
            warnings.warn(
                f"checkpoints leave out {place}, of {size / 1e9:.1f} GB, so that a run that goes on"
                " has what a new one has there: make it a buffer of its module if that matters",
                stacklevel=2,
            )

    def restore(self, trainer: L.Trainer, module: L.LightningModule, state: State) -> None:
        """Put back what :meth:`changed` gave, into the very lists and tensors where it can."""
        for name, holder in _holders(trainer, module):
            for key, packed in state.get(name, {}).items():
                _put(vars(holder), key, unpack(packed, module.device))


def _put(attributes: dict[str, Any], key: str, value: Any) -> None:
    there = attributes.get(key)
    match there, value:
        case (list(), list()):
            there[:] = value
        case (dict(), dict()) | (set(), set()):
            there.clear()
            there.update(value)
        case (deque(), deque()):
            there.clear()
            there.extend(value)
        case (Tensor(), Tensor()) if there.requires_grad and there.is_leaf:
            with torch.no_grad():
                there.copy_(value)  # An optimizer holds it.
        case _:
            attributes[key] = value


def is_users(value: object) -> bool:
    """Whether an object's class is none of the libraries'."""
    return type(value).__module__.partition(".")[0] not in FRAMEWORKS


def _holders(trainer: L.Trainer, module: L.LightningModule) -> Iterator[tuple[str, object]]:
    for name, part in module.named_modules():
        if is_users(part):
            yield f"module.{name}".rstrip("."), part
    for index, callback in enumerate(getattr(trainer, "callbacks", ())):
        stateless = type(callback).state_dict is L.Callback.state_dict
        if is_users(callback) and stateless:
            yield f"callback.{index}.{type(callback).__qualname__}", callback


def _attributes(holder: object) -> Iterator[tuple[str, Any]]:
    return ((key, x) for key, x in list(vars(holder).items()) if key not in _LIGHTNINGS)


@dataclass(frozen=True)
class _Object:
    """An object that is held, so that no other can come to its address."""

    value: Any
    version: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Object):
            return False
        return self.value is other.value and self.version == other.version

    __hash__ = None  # type: ignore[assignment]


class _LongError(Exception):
    """A value has more than `LONG` elements."""


def _mark(value: Any) -> Any:
    """Something that is equal as long as a value is the same."""
    try:
        return _exact(value, iter(range(LONG)))
    except _LongError:
        return type(value), len(value)


def _exact(value: Any, left: Iterator[int]) -> Any:
    if next(left, None) is None:
        raise _LongError
    kind = type(value)
    if kind in PLAIN:
        return kind, value
    if issubclass(kind, Tensor):
        return _Object(value, 0 if value.is_inference() else value._version)
    if issubclass(kind, np.ndarray) and not value.dtype.hasobject and value.nbytes <= LARGE:
        content = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return kind, value.shape, value.dtype, zlib.crc32(content.data)
    if issubclass(kind, list | tuple | set | frozenset | deque):
        return kind, [_exact(x, left) for x in value]
    if issubclass(kind, dict):
        return kind, [_exact(x, left) for pair in value.items() for x in pair]
    return _Object(value, 0)
