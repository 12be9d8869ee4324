"""What keeps a second run from giving the same bits, said before the first one starts."""

import copy
import os
import re

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from bitladder.callbacks.calibration import muted
from bitladder.cli.assemble import Parts
from bitladder.cli.schema import Config
from bitladder.errors import UserError

TRIED_SAMPLES = 2
"""Of made-up data, in one step."""

REFUSED = re.compile(r"(\S+) does not have a deterministic implementation")
"""As PyTorch says it, with the name of the operation."""


def differing(config: Config, parts: Parts, device: torch.device) -> list[str]:
    """Why a second run of the configuration may give other bits, a line a reason.

    With ``trainer.deterministic=true`` a copy of the task is taken through one step, so that an
    operation without a deterministic implementation is not found out in the middle of the training.
    Random numbers, and the task itself, are as they were.

    Args:
        config: The run's.
        parts: Made of it.
        device: Where it trains.

    Raises:
        UserError: If an operation of the task has no deterministic implementation there.
    """
    reasons = []
    trainer = config.trainer
    deterministic = trainer.get("deterministic")
    if deterministic is True:
        if (refusal := _refusal(parts, device)) is not None:
            raise UserError(
                f"trainer.deterministic=true: {refusal}; write trainer.deterministic=warn to train"
                " without the promise that the run can be repeated to the bit"
            )
    else:
        reasons.append(
            f"trainer.deterministic={str(deterministic).lower()} lets operations add in any order:"
            " write trainer.deterministic=true"
        )
    if trainer.get("benchmark") and device.type == "cuda":
        reasons.append("trainer.benchmark=true chooses convolutions by their speed")
    if config.precision.get("layers") == "auto":
        reasons.append("precision.layers=auto chooses layers by their speed")
    if trainer.get("max_time") is not None:
        reasons.append("trainer.max_time ends the training by the clock")
    return reasons


def _refusal(parts: Parts, device: torch.device) -> str | None:
    """What PyTorch says against a step in which every operation must be deterministic."""
    data = parts.data
    was = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    # cuBLAS looks at it once in a process; Lightning gives it the same value.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    with isolate_rng(include_cuda=device.type == "cuda"):
        try:
            task = copy.deepcopy(parts.task).to(device).train()
            x = torch.zeros(TRIED_SAMPLES, *data.input_shape, device=device)
            y = torch.zeros(TRIED_SAMPLES, dtype=torch.long, device=device)
            with muted(task):
                outputs = task.training_step((x, y), 0)
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            if isinstance(loss, torch.Tensor):
                loss.backward()
        except Exception as error:  # what else is wrong with a step shows when training starts
            found = REFUSED.search(str(error))
            return found and f"{found[1]} has no deterministic implementation on {device.type}"
        finally:
            torch.use_deterministic_algorithms(was, warn_only=warn_only)
    return None
