"""Stopping at the first number that is none."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from bitladder.errors import RunError
from bitladder.quantization.trees import tensors


class FiniteGuard(L.Callback):
    """Stops the run when a batch or the loss holds NaN or infinity, before the weights change.

    Checkpoints written before stay: they are the last good ones. Overflow of *gradients* is not its
    business; under fp16 the loss scaler deals with it.

    Raises:
        RunError: From the training loop; names what is not finite, the step and the epoch.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the data."""
        for x in tensors(batch):
            if x.is_floating_point() and not bool(torch.isfinite(x).all()):
                raise RunError(f"the data holds NaN or infinity {_moment(trainer, batch_idx)}")

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Look at the loss, which under fp16 is already scaled."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        # A finite loss may overflow when it is multiplied with the scale: that the scaler handles.
        if scaler is None and not bool(torch.isfinite(loss.detach()).all()):
            raise RunError(f"the loss is {loss.item()} {_moment(trainer)}")

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the unscaled loss that ``training_step`` gave."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor) and not bool(torch.isfinite(loss).all()):
            raise RunError(f"the loss is {loss.item()} {_moment(trainer, batch_idx)}")


def _moment(trainer: L.Trainer, batch_idx: int | None = None) -> str:
    batch = "" if batch_idx is None else f", batch {batch_idx}"
    return (
        f"at step {trainer.global_step} (epoch {trainer.current_epoch}{batch}): training stopped,"
        " the last checkpoint is good"
    )
