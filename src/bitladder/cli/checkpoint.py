"""Looking at a checkpoint before a run starts from it."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bitladder.archives import archive_damage, is_archive
from bitladder.errors import UserError
from bitladder.precision import LadderPrecision
from bitladder.runs import sha256
from bitladder.runs.trace import array_hash

_TRAINING_STATE = {
    "state_dict": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "loops": dict,
    "pytorch-lightning_version": str,
}
"""What training needs to go on, by key and type."""


def check_same_start(checkpoint: str, manifest: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that is not the one that a run started from, as far as that is known.

    Raises:
        UserError: If it is missing or another.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise UserError(f"checkpoint={checkpoint}: there is no such file")
    if manifest.get("start_sha256") not in (None, sha256(path)):
        raise UserError(f"checkpoint={checkpoint} is not the file that the run started from")


def check_checkpoint(
    path: str,
    module: nn.Module,
    optimizer: Optimizer | None,
    scheduler: LRScheduler | None,
    precision: LadderPrecision,
) -> dict[str, Any]:
    """Refuse a checkpoint that is none, or of another model, optimizer, schedule or precision.

    Nothing in the file is executed: it is read as tensors and plain containers.

    Returns:
        What is in it.

    Raises:
        UserError: Names the file and the first parameter that differs, or the precision.
    """
    content = _read(path, _TRAINING_STATE)
    _check_weights(path, content["state_dict"], module)
    groups = [] if optimizer is None else optimizer.param_groups
    options = {key for group in groups for key in group}
    for state in content["optimizer_states"]:
        for group in state["param_groups"]:
            if missing := sorted(options - group.keys()):
                raise UserError(
                    f"checkpoint={path} is of another optimizer, which has no {missing[0]}: write"
                    " the optimizer that it was trained with"
                )
    for state in content["lr_schedulers"]:
        if scheduler is not None and state.keys() != scheduler.state_dict().keys():
            raise UserError(
                f"checkpoint={path} is of another scheduler than {type(scheduler).__name__}: write"
                " the one that it was trained with, or scheduler=none"
            )
    precision.check_checkpoint(content)
    return content


def load_weights(path: str, module: nn.Module) -> None:
    """Give a module the weights of a checkpoint, in the module's own dtypes.

    Nothing in the file is executed: it is read as tensors and plain containers.

    Raises:
        UserError: If it is no checkpoint, or one of another model.
    """
    weights = _read(path, {"state_dict": dict})["state_dict"]
    _check_weights(path, weights, module)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"checkpoint={path} does not fit the model: {reason}") from error


def tensor_hashes(path: str) -> dict[str, str]:
    """What every tensor of a checkpoint's ``state_dict`` is, to the bit, by name.

    Nothing in the file is executed: it is read as tensors and plain containers.

    Raises:
        UserError: If it is no checkpoint, or holds something else than dense tensors.
    """
    return {
        str(name): _hash(path, name, value)
        for name, value in _read(path, {"state_dict": dict})["state_dict"].items()
    }


def _hash(path: str, name: str, value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    # A few bytes may be expanded to any size.
    if (
        value.layout is not torch.strided
        or value.device.type != "cpu"
        or value.is_quantized
        or value.nbytes > value.untyped_storage().nbytes()
    ):
        raise UserError(f"checkpoint={path} is damaged: {name} is no dense tensor")
    content = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return array_hash(str(value.dtype).removeprefix("torch."), tuple(value.shape), content)


def _read(path: str, parts: dict[str, type]) -> dict[str, Any]:
    """A checkpoint that has these parts."""
    if is_archive(Path(path)) and (damage := archive_damage(Path(path))):
        raise UserError(f"checkpoint={path} cannot be read as a checkpoint: {damage}")
    try:
        with warnings.catch_warnings(action="ignore"):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes lead the reader to
        # PyTorch's own advice about what it refused to unpickle is to execute it.
        refused = isinstance(error, pickle.UnpicklingError)
        lines = str(error).splitlines() or [type(error).__name__]
        reason = "it holds more than tensors and plain containers" if refused else lines[0]
        raise UserError(f"checkpoint={path} cannot be read as a checkpoint: {reason}") from error
    content = content if isinstance(content, dict) else {}
    for key, kind in parts.items():
        if not isinstance(content.get(key), kind):
            raise UserError(
                f"checkpoint={path} holds no {key}: write one that a run left in checkpoints/"
            )
    return content


def _check_weights(path: str, saved: dict[str, Any], module: nn.Module) -> None:
    expected = module.state_dict()
    for name in sorted(expected.keys() | saved.keys(), key=str):
        if name not in saved or name not in expected:
            where = "is missing in it" if name in expected else "is not in this model"
            raise UserError(f"checkpoint={path} is of another model: {name} {where}")
        if not isinstance(saved[name], torch.Tensor):
            raise UserError(f"checkpoint={path} is damaged: {name} is no tensor")
        if saved[name].shape != expected[name].shape:
            raise UserError(
                f"checkpoint={path} is of another model: {name} has shape"
                f" {tuple(saved[name].shape)} there and {tuple(expected[name].shape)} here"
            )
