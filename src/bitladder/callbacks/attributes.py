"""Plain attributes that modules and callbacks fill while they train.

``self.outputs.append(loss)`` in ``training_step`` and the like: Lightning saves none of it, so that
an epoch's mean over such a list would be another after a resume in its middle.
"""

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

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

    def note(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """The fit starts: what there is now is made by constructors and ``setup``."""
        self._noted, self._objects = {}, {}
        for place, value in _attributes(trainer, module):
            _walk(value, "|".join(place), self._objects)
        packers = self._packers(module)
        for place, value in _attributes(trainer, module):
            self._noted[place] = _Noted(value, _digest(packers(), value))

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
        unpacker = Unpacker(self._objects, _named(module), module.device)
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
            if noted is None or noted.digest is None or key in known or value is noted.value:
                continue
            # A hook of this process has changed what the other process had changed back.
            if _digest(packers(), value) != noted.digest:
                holders[name].values[key] = noted.value

    def _packers(self, module: L.LightningModule) -> Callable[[], Packer]:
        named = _named(module)
        dense = (x for x in named.values() if x.layout is torch.strided and not x.is_meta)
        return partial(
            Packer,
            {id(value): path for path, value in self._objects.items()},
            {id(x): name for name, x in named.items()},
            {x.untyped_storage().data_ptr() for x in dense},
        )

    def _tell(self, place: str, value: Any, packer: Packer) -> None:
        if place in self._told:
            return
        self._told.add(place)
        try:
            packer.pack(value)
            why = f"it has {size_of(value) / 1e9:.1f} GB"
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
    saved = module.state_dict(keep_vars=True)
    return {name: x for name, x in saved.items() if isinstance(x, Tensor)}


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


def _walk(value: Any, path: str, objects: dict[str, Any]) -> None:
    """Give paths to the objects that may be shared, up to `LONG` of them."""
    left, seen, end = [(path, value)], {id(x) for x in objects.values()}, len(objects) + LONG
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
