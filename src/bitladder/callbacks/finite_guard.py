"""Stopping at, or leaving out, what is no number."""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import wraps
from typing import Any, Literal, get_args

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from bitladder.callbacks.finite import (
    bad_gradient,
    bad_module,
    bad_state,
    finite_state,
    gradients,
    is_finite,
)
from bitladder.errors import RunError, UserError
from bitladder.precision.schedulers import hold_schedulers
from bitladder.quantization.trees import tensors

Action = Literal["stop", "skip"]

_LOG = logging.getLogger(__name__)


class FiniteGuard(L.Callback):
    """Stops the run at NaN or infinity, or leaves out the steps that they would spoil.

    Looked at are, at every step, the batch, the loss and the gradients of the optimizer's step,
    before the weights change; every so many steps, at the end of the training and before a
    checkpoint is written, the weights, the buffers and the observers of quantized layers. So a
    checkpoint is good if it is there, and none that is good is replaced by one that is not. Batches
    of validation, test, prediction and calibration are looked at, too.

    Under fp16 an overflow of the scaled gradients is the loss scaler's business.

    Logs with ``skip``, where there is a logger: ``finite_guard/skipped_steps``, how many optimizer
    steps were left out so far, or passes of an accumulation.

    Args:
        action: ``stop``, or ``skip``: a batch with a bad number in it, or in its loss, is left out,
            and so is an optimizer step with bad gradients; neither it nor a schedule then moves.
            What follows the training calibrates without such a batch. Weights, buffers and
            observers that are spoilt stop the run all the same, and so do bad validation and test
            data: a score of fewer samples is another score.
        every: Optimizer steps from one look at the weights to the next.

    Raises:
        UserError: If an argument is wrong; from ``fit``, where ``skip`` cannot be.
        RunError: From the loops; names what is not finite, the step, the epoch and the batch.
    """

    def __init__(self, action: Action = "stop", every: int = 100) -> None:
        super().__init__()
        if action not in get_args(Action):
            raise UserError(f"action={action!r}: write stop or skip")
        if every < 1:
            raise UserError(f"every={every}: write at least 1")
        self.action, self.every = action, every
        self.skipped_steps = 0
        """How many steps were left out."""
        self._taken_steps = 0
        self._saved = False
        self._batch: tuple[Any, int] = (None, 0)
        self._watched: set[str] = set()
        self._fit = ExitStack()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what cannot be left out.

        Raises:
            UserError: If steps are to be skipped that the module takes itself, or that several
                processes take together.
        """
        if stage != "fit" or self.action == "stop":
            return
        if not pl_module.automatic_optimization:
            raise UserError(
                "action=skip leaves out steps of the trainer, and this module optimizes manually:"
                " write action=stop"
            )
        if trainer.world_size > 1:
            raise UserError(
                "action=skip works in one process, as one rank cannot leave out a step alone: write"
                " action=stop"
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what is finite; get between trainer and module, if steps are to be skipped."""
        self._watched = finite_state(pl_module)
        if self.action == "stop":
            return
        step, had_own = pl_module.training_step, "training_step" in vars(pl_module)
        pl_module.training_step = self._skipping(step, trainer)
        if had_own:
            self._fit.callback(setattr, pl_module, "training_step", step)
        else:
            self._fit.callback(delattr, pl_module, "training_step")
        if not _has_scaler(trainer):  # which holds them itself
            self._fit.callback(hold_schedulers(pl_module, lambda: self._taken_steps))

    def _skipping(self, step: Callable[..., Any], trainer: L.Trainer) -> Callable[..., Any]:
        """A training step that gives no loss where it, or the batch, is not finite."""

        @wraps(step)
        def skipping(batch: Any, *args: Any, **kwargs: Any) -> Any:
            if not all(map(is_finite, tensors(batch))):
                return self._skip(trainer, "the data holds NaN or infinity")
            output = step(batch, *args, **kwargs)
            loss = _loss(output)
            if loss is not None and not is_finite(loss):
                return self._skip(trainer, f"the loss is {loss.item()}")
            return output

        return skipping

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the data."""
        self._batch = (batch, batch_idx)
        if self.action == "stop" and not all(map(is_finite, tensors(batch))):
            raise RunError(f"the data holds NaN or infinity {self._moment(trainer, batch_idx)}")

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at the data."""
        if all(map(is_finite, tensors(batch))):
            return
        what = _of("validation", batch_idx, dataloader_idx)
        fitting = trainer.state.fn == TrainerFn.FITTING
        raise RunError(f"{what} {self._moment(trainer)}" if fitting else what)

    def on_test_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at the data."""
        if not all(map(is_finite, tensors(batch))):
            raise RunError(_of("test", batch_idx, dataloader_idx))

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at the data."""
        if not all(map(is_finite, tensors(batch))):
            raise RunError(_of("prediction", batch_idx, dataloader_idx))

    def admits(self, batch: Any, batch_idx: int) -> bool:
        """Whether to calibrate on a batch.

        Raises:
            RunError: If not, and ``action`` is ``stop``.
        """
        if all(map(is_finite, tensors(batch))):
            return True
        what = _of("calibration", batch_idx)
        if self.action == "stop":
            raise RunError(what)
        _LOG.warning("%s: it is left out", what)
        return False

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Look at the loss, which under fp16 is already scaled."""
        # A finite loss may overflow when it is multiplied with the scale: that the scaler handles.
        if not _has_scaler(trainer) and not is_finite(loss.detach()):
            raise self._bad_loss(trainer, pl_module, loss)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Look at the gradients, accumulated and not clipped yet."""
        if _has_scaler(trainer):
            return
        found = gradients(optimizer)
        name = bad_gradient(pl_module, found)
        if name is None:
            self._taken_steps += bool(found)
            return
        what = f"the gradient of {name} holds NaN or infinity"
        if self.action == "stop":
            raise RunError(f"{what} {self._moment(trainer)}")
        self._skip(trainer, what)
        for parameter in pl_module.parameters():  # an optimizer leaves out what has no gradient
            parameter.grad = None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the unscaled loss that ``training_step`` gave; now and then at the weights."""
        loss = _loss(outputs)
        if loss is not None and not is_finite(loss):
            raise self._bad_loss(trainer, pl_module, loss)
        if trainer.global_step % self.every == 0:
            self._check_state(trainer, pl_module)
        if self.action == "skip" and trainer.loggers:
            pl_module.log("finite_guard/skipped_steps", float(self.skipped_steps))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the weights that the training ends with; let the module be as it was."""
        self._fit.close()
        self._check_state(trainer, pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Let the module be as it was."""
        self._fit.close()

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look at the weights before they replace those of an earlier checkpoint."""
        self._check_state(trainer, pl_module)
        self._saved = True

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out."""
        return {"skipped_steps": self.skipped_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._saved = True
        self.skipped_steps = state_dict["skipped_steps"]

    def _skip(self, trainer: L.Trainer, what: str) -> None:
        self.skipped_steps += 1
        _LOG.warning("%s %s: the step is left out", what, _when(trainer))

    def _check_state(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if (what := bad_state(module, self._watched)) is not None:
            raise RunError(f"{what} {self._moment(trainer)}")

    def _moment(self, trainer: L.Trainer, batch_idx: int | None = None) -> str:
        good = "the last checkpoint is good" if self._saved else "no checkpoint was written yet"
        return f"{_when(trainer, batch_idx)}: training stopped, {good}"

    def _bad_loss(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> RunError:
        what = f"the loss is {loss.item()}"
        with trainer.precision_plugin.forward_context():
            name = bad_module(pl_module, *self._batch)
        if name is not None:
            what += f", as {name} gives NaN or infinity,"
        return RunError(f"{what} {self._moment(trainer, self._batch[1])}")


def _loss(output: Any) -> Tensor | None:
    loss = output.get("loss") if isinstance(output, Mapping) else output
    return loss.detach() if isinstance(loss, Tensor) else None


def _has_scaler(trainer: L.Trainer) -> bool:
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def _when(trainer: L.Trainer, batch_idx: int | None = None) -> str:
    batch = "" if batch_idx is None else f", batch {batch_idx}"
    return f"at step {trainer.global_step} (epoch {trainer.current_epoch}{batch})"


def _of(split: str, batch_idx: int, dataloader_idx: int = 0) -> str:
    loader = f", loader {dataloader_idx}" if dataloader_idx else ""
    return f"the {split} data holds NaN or infinity (batch {batch_idx}{loader})"
