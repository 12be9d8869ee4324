"""Looking at a checkpoint before a run starts from it."""

import pickle
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bitladder.errors import UserError
from bitladder.precision import LadderPrecision

_TRAINING_STATE = {
    "state_dict": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "loops": dict,
    "pytorch-lightning_version": str,
}
"""What training needs to go on, by key and type."""


def check_checkpoint(
    path: str,
    module: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    precision: LadderPrecision,
) -> None:
    """Refuse a checkpoint that is none, or of another model, optimizer, schedule or precision.

    Nothing in the file is executed: it is read as tensors and plain containers.

    Raises:
        UserError: Names the file and the first parameter that differs, or the precision.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint={path} cannot be read as a checkpoint: {reason}") from error
    content = content if isinstance(content, dict) else {}
    for key, kind in _TRAINING_STATE.items():
        if not isinstance(content.get(key), kind):
            raise UserError(
                f"checkpoint={path} holds no {key}: write one that a run left in checkpoints/"
            )
    saved = content["state_dict"]
    expected = module.state_dict()
    for name in sorted(expected.keys() | saved.keys()):
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
    options = {key for group in optimizer.param_groups for key in group}
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
