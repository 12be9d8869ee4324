"""Which precision trained a checkpoint."""

from collections.abc import Mapping
from typing import Any

import torch

CHECKPOINT_KEY = "bitladder_precision"
"""Where a checkpoint keeps the precision of its run, whatever the plugin's class is called."""


def precisions_of(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """The precisions that may have trained a checkpoint; none if nothing tells.

    Our plugins note theirs. Lightning's leave traces only: the state of a GradScaler, or weights
    that are not float32. Without either the checkpoint is of one with float32 weights.
    """
    if CHECKPOINT_KEY in checkpoint:
        return (checkpoint[CHECKPOINT_KEY]["requested"],)
    if scaler_state(checkpoint) is not None:
        return ("fp16",)
    values = checkpoint.get("state_dict", {}).values()
    dtypes = {x.dtype for x in values if isinstance(x, torch.Tensor) and x.is_floating_point()}
    if not dtypes:
        return ()
    if dtypes == {torch.bfloat16}:
        return ("bf16_true",)
    if dtypes == {torch.float16}:
        return ("Lightning's 16-true",)
    return ("fp32", "tf32", "bf16")


def scaler_state(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state of the loss scaler in a checkpoint, ours or one of Lightning's, if there is one.

    Lightning keeps it under the name of the plugin's class, whichever that was.
    """
    if CHECKPOINT_KEY in checkpoint:
        return checkpoint[CHECKPOINT_KEY].get("scaler")
    for value in checkpoint.values():
        if isinstance(value, dict) and {"scale", "_growth_tracker"} <= value.keys():
            return value
    return None
