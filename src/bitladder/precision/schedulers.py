"""Learning-rate schedules that wait for an optimizer step that was left out."""

from collections.abc import Callable
from typing import Any

from lightning import LightningModule


def hold_schedulers(module: LightningModule, taken_steps: Callable[[], int]) -> Callable[[], None]:
    """Step a scheduler only if the optimizer has stepped since the scheduler's last turn.

    Lightning gives schedulers their turn through the module's hook `lr_scheduler_step`, skipped
    optimizer step or not; the hook is wrapped.

    Args:
        module: The module that trains.
        taken_steps: How many optimizer steps have changed parameters so far.

    Returns:
        What gives the module its own hook back.
    """
    hook, had_own_hook = module.lr_scheduler_step, "lr_scheduler_step" in vars(module)
    steps_at_last_turn: dict[int, int] = {}
    steps_at_start = taken_steps()

    def step_if_optimizer_did(scheduler: Any, metric: Any) -> None:
        if steps_at_last_turn.get(id(scheduler), steps_at_start) != taken_steps():
            steps_at_last_turn[id(scheduler)] = taken_steps()
            hook(scheduler, metric)

    def release() -> None:
        if had_own_hook:
            module.lr_scheduler_step = hook
        else:
            del module.lr_scheduler_step

    module.lr_scheduler_step = step_if_optimizer_did
    return release
