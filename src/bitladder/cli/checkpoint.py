"""Looking at a checkpoint before a run starts from it."""

import pickle
from typing import Any

import torch
from torch import nn

from bitladder.errors import UserError


def check_checkpoint(path: str, module: nn.Module) -> None:
    """Refuse a checkpoint that is no checkpoint, or of another model.

    Nothing in the file is executed: it is read as tensors and plain containers.

    Raises:
        UserError: Names the file and the first parameter that differs.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint={path} cannot be read as a checkpoint: {reason}") from error
    saved = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(saved, dict):
        raise UserError(f"checkpoint={path} holds no state_dict: it is no checkpoint of a run")
    expected = module.state_dict()
    for name in sorted(expected.keys() | saved.keys()):
        if name not in saved or name not in expected:
            where = "is missing in it" if name in expected else "is not in this model"
            raise UserError(f"checkpoint={path} is of another model: {name} {where}")
        if saved[name].shape != expected[name].shape:
            raise UserError(
                f"checkpoint={path} is of another model: {name} has shape"
                f" {tuple(saved[name].shape)} there and {tuple(expected[name].shape)} here"
            )
