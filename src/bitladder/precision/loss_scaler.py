"""The loss scaler of fp16 training: torch's GradScaler, counted, stopped and resumed."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from bitladder.errors import RunError, UserError


class LossScaler(torch.amp.GradScaler):
    """`torch.amp.GradScaler` that counts the steps it skips and ends a run that cannot go on.

    The arithmetic is torch's own (Micikevicius et al., "Mixed Precision Training",
    arXiv:1710.03740): the loss times the scale, gradients divided by it, the step skipped and the
    scale multiplied by `backoff_factor` when a gradient overflowed, the scale multiplied by
    `growth_factor` after `growth_interval` steps without overflow.

    Attributes:
        taken_steps: optimizer steps that changed parameters, in this process.
        skipped_steps: optimizer steps left out because a gradient was infinite or NaN, in the run.
        last_step_skipped: whether the latest optimizer step was one of these.
        is_stepping: whether `step` is running.
    """

    def __init__(
        self,
        device: str,
        *,
        init_scale: float,
        growth_factor: float,
        backoff_factor: float,
        growth_interval: int,
        min_scale: float,
    ) -> None:
        super().__init__(
            device,
            init_scale=init_scale,
            growth_factor=growth_factor,
            backoff_factor=backoff_factor,
            growth_interval=growth_interval,
        )
        self.min_scale = min_scale
        self.taken_steps = 0
        self.skipped_steps = 0
        self.last_step_skipped = False
        self.is_stepping = False
        # Since the last update: the ids of the optimizers with unscaled gradients, of those that
        # stepped, and whether a step met an overflow.
        self._unscaled: set[int] = set()
        self._stepped: set[int] = set()
        self._overflowed = False

    @property
    def has_scaled(self) -> bool:
        """Whether a loss was scaled yet."""
        return self._scale is not None

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of `optimizer` by the scale, once between two updates."""
        if id(optimizer) not in self._unscaled:
            super().unscale_(optimizer)
            self._unscaled.add(id(optimizer))

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> float | None:
        """Step `optimizer` unless a gradient overflowed.

        Fused optimizers, too, get unscaled gradients: torch tells them to skip on overflow, but no
        longer to unscale, so that gradients can be clipped before.
        """
        self.unscale_(optimizer)
        self.is_stepping = True
        try:
            result = super().step(optimizer, *args, **kwargs)
        finally:
            self.is_stepping = False
        found = self._found_inf_per_device(optimizer).values()
        self.last_step_skipped = any(bool(overflow.item()) for overflow in found)
        self.skipped_steps += self.last_step_skipped
        self.taken_steps += not self.last_step_skipped
        self._stepped.add(id(optimizer))
        self._overflowed |= self.last_step_skipped
        return result

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Adapt the scale to what the steps since the last update found.

        Raises:
            RunError: overflows have brought the scale below `min_scale`.
        """
        super().update(new_scale)
        overflowed, self._overflowed = self._overflowed, False
        self._unscaled.clear()
        self._stepped.clear()
        if overflowed and self.get_scale() < self.min_scale:
            raise RunError(
                f"precision=fp16: the loss scale fell to {self.get_scale():g}, below "
                f"min_scale={self.min_scale:g}, with {self.skipped_steps} optimizer steps skipped: "
                "gradients overflow at every scale, so the loss or the model gives infinities or "
                "NaN; look at the data and the learning rate, or train with precision=bf16"
            )

    def finish_steps(self, optimizers: Iterable[Optimizer]) -> None:
        """Update after one or more of `optimizers` have stepped; do nothing if none has.

        One may still hold gradients of the old scale, waiting for its step: they are carried over
        to the new one.

        Raises:
            UserError: the gradients of one are unscaled, and it has not stepped with them.
        """
        if not self._stepped:
            return
        self.refuse_unused_gradients()
        waiting = [
            parameter.grad
            for optimizer in optimizers
            if id(optimizer) not in self._unscaled
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        before = self.get_scale() if waiting else 0.0
        self.update()
        if waiting and (after := self.get_scale()) != before:
            for gradient in waiting:
                gradient.mul_(after / before)

    def refuse_unused_gradients(self) -> None:
        """Refuse to go on with gradients that are unscaled, but not used in a step.

        Raises:
            UserError: scaled gradients would be added to them, or they would be unscaled twice.
        """
        if self._unscaled != self._stepped:
            raise UserError(
                "precision=fp16: an optimizer's gradients were clipped or unscaled, but it did not "
                "step before the next backward pass; clip only right before optimizer.step()"
            )

    def state_dict(self) -> dict[str, Any]:
        """The scaler's state and the number of skipped steps."""
        return super().state_dict() | {"skipped_steps": self.skipped_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the scale of `state_dict`, ours or a plain GradScaler's.

        Factors and intervals are settings, not state: those of this scaler stay.
        """
        resumed = {key: state_dict[key] for key in ("scale", "_growth_tracker")}
        super().load_state_dict(super().state_dict() | resumed)
        self.skipped_steps = state_dict.get("skipped_steps", 0)
