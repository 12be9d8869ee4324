"""Plain attributes that modules and callbacks fill while they train.

``self.outputs.append(loss)`` in ``training_step`` and the like: Lightning saves none of it, so that
an epoch's mean over such a list would be another after a resume in its middle.
"""

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import lightning as L
import numpy as np
from torch import Tensor

from bitladder.callbacks.generators import Generator
from bitladder.callbacks.plain_graph import Packer, Unpacker, digest, size_of

FRAMEWORKS = {"bitladder", "lightning", "torch", "torchao", "torchmetrics"}
"""Whose own classes save what they need."""

LONG = 10_000
"""Objects below an attribute that are known by their path."""

LISTS = (list, deque)

LARGE = 2**28
"""Bytes of a value that is left out, with a warning: checkpoints are written often."""

State = dict[str, dict[str, Any]]
Place = tuple[str, str]

_LIGHTNINGS = {
    *vars(L.LightningModule()),
    *("_hparams", "_hparams_name", "_hparams_initial", "_log_hyperparams", "_compiler_ctx"),
}


@dataclass(frozen=True)
class _Noted:
    """An attribute when the fit started."""

    value: Any
    digest: bytes | None
    """None of what is no plain value."""
    packed: Any = None
    """A copy, while a hook may still change the value in place before it is put back."""


class Attributes:
    """What has changed of them since the fit started, and how to put it back.

    They are those of the module, of modules in it and of callbacks without a ``state_dict``, if
    their class is the user's own, and hold numbers, texts, tensors, arrays, and lists, tuples,
    sets, deques and dicts of them, of up to `LARGE` bytes; and buffers that are no part of the
    ``state_dict``. Objects that several of them share, and those that the constructor made and
    others hold, stay shared. What has changed and cannot be saved is told once.
    """

    def __init__(self) -> None:
        self._noted: dict[Place, _Noted] = {}
        self._objects: dict[str, Any] = {}
        self._told: set[str] = set()

    def note(self, trainer: L.Trainer, module: L.LightningModule, *, resumed: bool) -> None:
        """The fit starts: what there is now is made by constructors and ``setup``.

        Args:
            trainer: Fits.
            module: Is fitted.
            resumed: Whether :meth:`restore` follows.
        """
        self._noted, self._objects = {}, {}
        seen: set[int] = set()
        for place, value in _attributes(trainer, module):
            _walk(value, "|".join(place), self._objects, seen)
        packers = self._packers(module)
        for place, value in _attributes(trainer, module):
            packed = _packed(packers(), value)
            code = None if packed is None else digest(packed[0])
            kept = packed[0] if resumed and packed is not None else None
            self._noted[place] = _Noted(value, code, kept)

    def changed(self, trainer: L.Trainer, module: L.LightningModule) -> State:
        """What is another now, for a checkpoint, by holder: packed, gone, or left out."""
        packers, state = self._packers(module), {}
        shared, here = packers(), dict(_attributes(trainer, module))
        for (name, key), value in here.items():
            noted, now = self._noted.get((name, key)), _digest(packers(), value)
            part = state.setdefault(name, {"changed": {}, "gone": [], "left": []})
            if noted is not None and noted.digest is not None and noted.digest == now:
                continue
            packed = _packed(shared, value)
            if packed is not None:
                part["changed"][key] = packed[0]
                continue
            part["left"].append(key)
            if noted is None or noted.digest is not None or noted.value is not value:
                self._tell(f"{name}.{key}", value, packers())
        for name, key in self._noted.keys() - here.keys():
            state.setdefault(name, {"changed": {}, "gone": [], "left": []})["gone"].append(key)
        return {name: part for name, part in state.items() if any(part.values())}

    def restore(self, trainer: L.Trainer, module: L.LightningModule, state: State) -> None:
        """Put back what :meth:`changed` gave.

        Raises:
            ValueError: If it gives nothing like it.
        """
        unpackers = partial(Unpacker, self._objects, _named(module), module.device)
        unpacker = unpackers()
        holders = {holder.name: holder for holder in _holders(trainer, module)}
        for name, part in state.items():
            if name not in holders:
                continue
            for key, packed in part["changed"].items():
                if holders[name].has(key):
                    holders[name].values[key] = unpacker.unpack(packed)
            for key in filter(holders[name].has, part["gone"]):
                holders[name].values.pop(key, None)
        packers = self._packers(module)
        for (name, key), value in _attributes(trainer, module):
            noted, part = self._noted.get((name, key)), state.get(name, {})
            known = (*part.get("changed", ()), *part.get("left", ()))
            if noted is None or noted.digest is None or key in known:
                continue
            # A hook of this process has changed what the other process had changed back.
            if _digest(packers(), value) != noted.digest:
                holders[name].values[key] = unpackers().unpack(noted.packed)
        self._noted = {place: replace(noted, packed=None) for place, noted in self._noted.items()}

    def _packers(self, module: L.LightningModule) -> Callable[[], Packer]:
        named = _named(module)
        return partial(
            Packer,
            {id(value): path for path, value in self._objects.items()},
            {id(x): name for name, x in named.items()},
            {*filter(None, map(_address, named.values()))},
        )

    def _tell(self, place: str, value: Any, packer: Packer) -> None:
        if place in self._told or isinstance(value, Generator):  # which others put back
            return
        self._told.add(place)
        try:
            size = size_of(value)
            if size <= LARGE:
                packer.pack(value)
            why = f"it has {size / 1e9:.1f} GB"
        except Exception as error:
            why = str(error)
        warnings.warn(
            f"checkpoints leave out {place} ({why}): a run that goes on has there what a new one"
            " has; let on_save_checkpoint or state_dict save it if that matters",
            stacklevel=3,
        )


def is_users(value: object) -> bool:
    """Whether an object's class is none of the libraries'."""
    return _package(type(value)) not in FRAMEWORKS


@dataclass(frozen=True)
class _Holder:
    """Something with attributes: its ``__dict__``, or a module's buffers."""

    name: str
    values: dict[str, Any]
    only: frozenset[str] | None = None

    def has(self, key: str) -> bool:
        """Whether an attribute of this name is ours to save."""
        return key not in _LIGHTNINGS if self.only is None else key in self.only


def _holders(trainer: L.Trainer, module: L.LightningModule) -> Iterator[_Holder]:
    for name, part in module.named_modules():
        if is_users(part):
            yield _Holder(f"module.{name}".rstrip("."), vars(part))
            fleeting = frozenset(part._non_persistent_buffers_set)
            yield _Holder(f"buffers.{name}".rstrip("."), part._buffers, fleeting)
    counts = Counter()
    for callback in getattr(trainer, "callbacks", ()):
        kinds = type(callback).__mro__[: type(callback).__mro__.index(L.Callback)]
        stateless = type(callback).state_dict is L.Callback.state_dict
        # One that is made of a library's callback keeps that one's state, such as a progress bar's.
        if kinds and stateless and not any(_package(kind) in FRAMEWORKS for kind in kinds):
            name = f"callback.{kinds[0].__module__}.{kinds[0].__qualname__}"
            counts[name] += 1
            yield _Holder(f"{name}.{counts[name]}", vars(callback))


def _attributes(trainer: L.Trainer, module: L.LightningModule) -> Iterator[tuple[Place, Any]]:
    for holder in _holders(trainer, module):
        for key, value in list(holder.values.items()):
            if holder.has(key):
                yield (holder.name, key), value


def _named(module: L.LightningModule) -> dict[str, Tensor]:
    """Parameters and buffers that Lightning saves, by their names."""
    named: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    for prefix, part in module.named_modules(remove_duplicate=False):
        for name, x in part.named_buffers(prefix, recurse=False, remove_duplicate=False):
            if name.rpartition(".")[2] not in part._non_persistent_buffers_set:
                named[name] = x
    return named


def _address(x: Tensor) -> int | None:
    """Of its memory, if it has any that is its own."""
    try:
        return x.untyped_storage().data_ptr()
    except RuntimeError:  # sparse, or wrapped, as by FSDP2
        return None


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _packed(packer: Packer, value: Any) -> tuple[Any] | None:
    """None where the value cannot be saved."""
    try:
        return None if size_of(value) > LARGE else (packer.pack(value),)
    except Exception:  # another type, a container that a thread changes, one too deep
        return None


def _digest(packer: Packer, value: Any) -> bytes | None:
    packed = _packed(packer, value)
    return None if packed is None else digest(packed[0])


def _walk(value: Any, path: str, objects: dict[str, Any], seen: set[int]) -> None:
    """Give paths to the objects that may be shared, up to `LONG` of them."""
    left, end = [(path, value)], len(objects) + LONG
    while left and len(objects) < end:
        path, item = left.pop()
        kind = type(item)
        is_leaf = issubclass(kind, Tensor | np.ndarray)
        if id(item) in seen or not (is_leaf or issubclass(kind, (*LISTS, dict, set, tuple))):
            continue
        seen.add(id(item))
        objects[path] = item
        if issubclass(kind, dict):
            left += [(f"{path}|{key!r}", x) for key, x in list(item.items())[:LONG]]
        elif issubclass(kind, (*LISTS, tuple)):
            left += [(f"{path}|{index}", x) for index, x in enumerate(list(item)[:LONG])]
