"""What a checkpoint may hold: tensors and plain containers, which are read without running code."""

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from bitladder.errors import UserError

_VALUES = (
    *(type(None), bool, int, float, complex, str),
    *(torch.dtype, torch.device, torch.Size, Tensor, nn.Parameter),
)
_MAPPINGS = (dict, OrderedDict)
_SEQUENCES = (list, tuple, set)

_HYPERPARAMETERS = tuple(
    key
    for kind in (LightningModule, LightningDataModule)
    for key in (kind.CHECKPOINT_HYPER_PARAMS_KEY, kind.CHECKPOINT_HYPER_PARAMS_TYPE)
)
"""What ``save_hyperparameters()`` adds: arguments of constructors, of whatever type they are."""


def without_objects(checkpoint: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A checkpoint that PyTorch reads with ``weights_only=True``.

    Args:
        checkpoint: What Lightning and the user's module put together. It stays as it is.

    Returns:
        The checkpoint, and the names of the hyperparameters that it is without: nothing goes on
        from them.

    Raises:
        UserError: If anything else than a hyperparameter could not be read. Names it.
    """
    plain, left_out = dict(checkpoint), []
    for key in _HYPERPARAMETERS:
        values = plain.get(key)
        if isinstance(values, dict):
            objects = [name for name, value in values.items() if _first_object(value, "")]
            left_out += map(str, objects)
            plain[key] = {name: x for name, x in values.items() if name not in objects}
        elif _first_object(values, key):
            left_out += map(str, values) if isinstance(values, Mapping) else ()
            del plain[key]
    if found := _first_object(plain, ""):
        where, value = found
        kind = type(value)
        raise UserError(
            f"a checkpoint cannot hold {where}, a {kind.__module__}.{kind.__qualname__}: reading it"
            " would run code; let on_save_checkpoint or state_dict give tensors, numbers, texts,"
            " lists and dicts (of NumPy's, x.item() or torch.from_numpy(x))"
        )
    return plain, left_out


def _first_object(value: Any, where: str) -> tuple[str, Any] | None:
    """The first thing in a tree that is not read without running code, with its place."""
    left, seen = [(where, value)], set[int]()
    while left:
        where, item = left.pop()
        kind = type(item)
        if kind in (*_MAPPINGS, *_SEQUENCES):
            if id(item) not in seen:
                seen.add(id(item))
                left += reversed([*_below(item, where)])
        elif (kind not in _VALUES or getattr(item, "__dict__", None)) and not _is_read(item):
            return where, item
    return None


def _below(container: Any, where: str) -> Iterator[tuple[str, Any]]:
    if type(container) in _MAPPINGS:
        yield from ((where, key) for key in container)
        yield from ((f"{where}.{key}".lstrip("."), x) for key, x in container.items())
    else:
        yield from ((f"{where}[{index}]", x) for index, x in enumerate(container))


def _is_read(value: Any) -> bool:
    """Whether PyTorch says that it is: it knows more types, and the user may have added some."""
    content = io.BytesIO()
    try:
        torch.save(value, content)
    except Exception:  # whatever an object raises that cannot be pickled
        return False
    content.seek(0)
    return not get_unsafe_globals_in_checkpoint(content)
