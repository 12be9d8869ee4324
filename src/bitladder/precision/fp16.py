"""fp16: float32 parameters, float16 autocast, one loss scaler for the whole run."""

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning import LightningModule
from lightning.fabric.utilities.types import Steppable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from bitladder.errors import UserError
from bitladder.precision.base import LadderPrecision
from bitladder.precision.half_convolution import FastConvolutionGradients
from bitladder.precision.loss_scaler import LossScaler
from bitladder.precision.origin import CHECKPOINT_KEY, scaler_state
from bitladder.precision.schedulers import hold_schedulers

LARGEST_SCALE = 2.0**127
"""The largest power of two that float32 holds, in which the scale is kept."""


class Fp16Precision(LadderPrecision):
    """Float32 parameters; forward pass and loss under `torch.autocast` in float16, loss scaled.

    On the CPU as on a GPU. Logs, where there is a logger, with every training step:

    - ``precision/loss_scale``: what the loss of this batch is multiplied by;
    - ``precision/skipped_steps``: optimizer steps left out so far because a gradient overflowed.

    Gradients are unscaled before they are clipped or looked at
    (`on_before_optimizer_step`), with fused optimizers too. A skipped optimizer step does not
    advance the learning-rate schedulers that Lightning steps. In manual optimization: call
    `self.manual_backward(loss)`; clip with `self.clip_gradients`, or call
    `trainer.precision_plugin.unscale_gradients(optimizer)` before looking at gradients; step your
    scheduler only `if not trainer.precision_plugin.last_step_skipped`.

    Args:
        init_scale: the loss is multiplied by this at first.
        growth_factor: the scale is multiplied by this after `growth_interval` good steps.
        backoff_factor: the scale is multiplied by this after an overflow, and the step skipped.
        growth_interval: optimizer steps without overflow before the scale grows.
        min_scale: a scale below this ends the run with a RunError.
        allow_precision_change: as for every precision.

    Raises:
        UserError: an argument is out of its range.
    """

    requested = "fp16"
    precision = "16-mixed"
    autocast_dtype = torch.float16

    def __init__(
        self,
        *,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        min_scale: float = 2.0**-14,
        allow_precision_change: bool = False,
    ) -> None:
        super().__init__(allow_precision_change=allow_precision_change)
        _require(0 < min_scale <= init_scale, "min_scale", min_scale, "above 0, up to init_scale")
        _require(init_scale <= LARGEST_SCALE, "init_scale", init_scale, "up to 2**127")
        _require(growth_factor <= LARGEST_SCALE, "growth_factor", growth_factor, "such as 2.0")
        _require(growth_factor > 1, "growth_factor", growth_factor, "above 1, such as 2.0")
        _require(0 < backoff_factor < 1, "backoff_factor", backoff_factor, "between 0 and 1")
        _require(growth_interval >= 1, "growth_interval", growth_interval, "at least 1")
        self._settings = {
            "init_scale": init_scale,
            "growth_factor": growth_factor,
            "backoff_factor": backoff_factor,
            "growth_interval": growth_interval,
            "min_scale": min_scale,
        }
        self.scaler: LossScaler | None = None
        self._optimizers: list[Optimizer] = []
        self._module: LightningModule | None = None

    @property
    def loss_scale(self) -> float:
        """What the loss is multiplied by now."""
        return self.scaler.get_scale() if self.scaler else self._settings["init_scale"]

    @property
    def skipped_steps(self) -> int:
        """Optimizer steps left out so far because a gradient overflowed."""
        return self.scaler.skipped_steps if self.scaler else 0

    @property
    def last_step_skipped(self) -> bool:
        """Whether the latest optimizer step was left out."""
        return self.scaler is not None and self.scaler.last_step_skipped

    def effective(self) -> dict[str, str | float | bool]:
        """What really runs, with the loss scale and the skipped steps as they are now."""
        known = super().effective()
        if known["device"] == "cpu":  # see FastConvolutionGradients
            known |= {"convolution_gradients": "float32, rounded once to float16"}
        return known | {"loss_scale": self.loss_scale, "skipped_steps": self.skipped_steps}

    def attach(self, device: torch.device) -> None:
        """Take `device` as the one to run on, and make the run's scaler unless there is one."""
        super().attach(device)
        if self.scaler is None:
            self.scaler = LossScaler(device.type, **self._settings)

    def check_strategy(self, kind: type[Strategy]) -> None:
        """Refuse strategies whose ranks hold shards of gradients."""
        super().check_strategy(kind)
        if issubclass(kind, ModelParallelStrategy):
            raise UserError(
                "precision=fp16 does not work with the model-parallel strategy, whose ranks would "
                "disagree on which steps to skip; write precision=bf16"
            )

    def check_optimizer(self, kind: type[Optimizer]) -> None:
        """Refuse LBFGS."""
        if issubclass(kind, LBFGS):
            raise UserError(
                "precision=fp16 does not work with the LBFGS optimizer, which evaluates the loss "
                "several times a step; write precision=fp32, or optimizer=adamw"
            )

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Attach to the run that begins."""
        module = super().convert_module(module)
        assert isinstance(module, LightningModule)
        self._module = module
        return module

    def connect(
        self, model: nn.Module, optimizers: list[Optimizer], lr_schedulers: list[Any]
    ) -> tuple[nn.Module, list[Optimizer], list[Any]]:
        """See the optimizers of the run, and keep its schedulers in step with them."""
        super().connect(model, optimizers, lr_schedulers)
        self._optimizers = optimizers
        if self._fitting:
            assert self._module is not None
            scaler = self._active_scaler()
            self._run.callback(hold_schedulers(self._module, lambda: scaler.taken_steps))
            for optimizer in optimizers:
                handle = optimizer.register_step_pre_hook(self._refuse_step_past_scaler)
                self._run.callback(handle.remove)
        return model, optimizers, lr_schedulers

    def _refuse_step_past_scaler(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._active_scaler().is_stepping:
            raise UserError(
                "precision=fp16: the optimizer stepped past the loss scaler, with gradients that "
                "are still scaled; take it from self.optimizers() and call its step()"
            )

    @contextmanager
    def train_step_context(self) -> Generator[None, None, None]:
        """Autocast around the training step; in manual optimization it contains the steps, too."""
        scaler = self._active_scaler()
        self._log()
        with self.forward_context():
            yield
        scaler.finish_steps(self._optimizers)
        scaler.refuse_unused_gradients()

    def _log(self) -> None:
        """Log the scale of this batch and the steps skipped before it, as the module would."""
        assert self._module is not None
        if self._module.trainer.loggers:
            self._module.log("precision/loss_scale", self.loss_scale)
            self._module.log("precision/skipped_steps", float(self.skipped_steps))

    def pre_backward(self, tensor: Tensor, module: LightningModule) -> Tensor:
        """Scale the loss, by a scale that knows of the optimizer steps so far."""
        scaler = self._active_scaler()
        scaler.finish_steps(self._optimizers)
        return super().pre_backward(scaler.scale(tensor), module)

    def backward(
        self,
        tensor: Tensor,
        model: LightningModule,
        optimizer: Steppable | None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Backward as it is; on the CPU without PyTorch's reference kernel of convolutions."""
        with FastConvolutionGradients() if self.device.type == "cpu" else nullcontext():
            super().backward(tensor, model, optimizer, *args, **kwargs)

    def optimizer_step(
        self,
        optimizer: Steppable,
        model: LightningModule,
        closure: Callable[[], Any],
        **kwargs: Any,
    ) -> Any:
        """Run the closure, unscale the gradients, clip them, and step unless they overflowed."""
        assert isinstance(optimizer, Optimizer)
        result = closure()
        if all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
            # Nothing to step with: `training_step` returned None, for one.
            return result
        self.unscale_gradients(optimizer)
        self._after_closure(model, optimizer)
        self._active_scaler().step(optimizer, **kwargs)
        if model.automatic_optimization:
            self._active_scaler().update()
        return result

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Unscale the gradients of `optimizer`, unless they are already."""
        scaler = self._active_scaler()
        if not scaler.has_scaled:
            raise UserError(
                "precision=fp16: the optimizer steps before any loss was scaled; in manual "
                "optimization write self.manual_backward(loss), not loss.backward()"
            )
        scaler.unscale_(
            optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        )

    def clip_gradients(
        self,
        optimizer: Optimizer,
        clip_val: int | float = 0.0,
        gradient_clip_algorithm: GradClipAlgorithmType = GradClipAlgorithmType.NORM,
    ) -> None:
        """Clip gradients, unscaled before (they are, except in manual optimization)."""
        self.unscale_gradients(optimizer)
        super().clip_gradients(optimizer, clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the scaler's state into the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        if self.scaler:
            checkpoint[CHECKPOINT_KEY]["scaler"] = self.scaler.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume a fit at the scale of the checkpoint, ours or one that Lightning's plugin wrote.

        Evaluating a checkpoint leaves the scaler alone.
        """
        super().on_load_checkpoint(checkpoint)
        state = scaler_state(checkpoint)
        if self._fitting and state:
            self._active_scaler().load_state_dict(state)

    def _active_scaler(self) -> LossScaler:
        assert self.scaler is not None, "the plugin is not attached to a device yet"
        return self.scaler


def _require(holds: bool, name: str, value: float, wanted: str) -> None:
    if not holds:
        raise UserError(f"precision.{name}={value} cannot be; write a value {wanted}")
