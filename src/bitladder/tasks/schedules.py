"""Learning-rate schedules that know how many steps there will be."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from bitladder.errors import UserError


def cosine_with_warmup(
    optimizer: Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0
) -> LambdaLR:
    """Linear warm-up to the optimizer's learning rate, then half a cosine down.

    Loshchilov and Hutter, "SGDR" (ICLR 2017), without restarts.

    Args:
        optimizer: Its learning rates are the peaks.
        total_steps: Optimizer steps of the whole training.
        warmup: The fraction of the steps that climb.
        final: The last step's learning rate over the peak.

    Raises:
        UserError: If ``warmup`` is outside [0, 1) or ``final`` outside [0, 1].
    """
    if not 0.0 <= warmup < 1.0:
        raise UserError(f"scheduler.warmup={warmup}: write a fraction of the steps, 0 to below 1")
    if not 0.0 <= final <= 1.0:
        raise UserError(f"scheduler.final={final}: write a fraction of the learning rate, 0 to 1")
    climb = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < climb:
            return (step + 1) / climb
        progress = min((step - climb) / max(total_steps - 1 - climb, 1), 1.0)
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
