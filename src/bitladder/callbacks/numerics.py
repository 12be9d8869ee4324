"""What a number format does to the numbers of a training, seen every so many steps."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from bitladder.callbacks.numerics_sample import NumericsSample
from bitladder.errors import UserError
from bitladder.formats import BF16, FLOAT_FORMATS, FP16, FP32, TF32, FloatFormat, get_format
from bitladder.patterns import matches, require_matches
from bitladder.precision import Tf32Precision


class NumericsMonitor(L.Callback):
    """Logs how weights, activations and gradients fit the training format, and would fit others.

    A sample is all of one optimizer step, at steps 0, `every`, 2 `every` and so on; the other steps
    cost a comparison of two integers. It goes to every logger of the trainer, at the step (the
    trainer's `global_step`) that the sample is of. Training itself is the same to the bit.

    Logs, `<module>` being a name such as `net.head`:

    - `numerics/weight/<module>/...`: the module's own parameters, before the step.
    - `numerics/activation/<module>/...`: the module's outputs, as they are stored.
    - `numerics/gradient/<module>/...`: the gradients of these outputs.
    - `numerics/weight_gradient/<module>/...`: the gradients of the parameters, not scaled, before
      they are clipped.

    and for each of them

    - `amax`: the greatest finite magnitude, without the loss scale.
    - `zero`, `nonfinite`: shares of zeros, and of infinities and NaN.
    - `underflow`, `subnormal`, `saturated`: shares of values that the training format rounds to
      zero, to a subnormal number, to beyond its greatest number. Of `gradient`, these are of what
      the backward pass computes with: multiplied with the loss scale.
    - `<format>/underflow`, `<format>/subnormal`, `<format>/saturated`: the same if the values were
      stored in that format, without any scale: neither a loss scale nor one for the tensor.

    and for the whole step

    - `numerics/gradient_norm`: Euclidean norm of the optimizer's gradients, not scaled, before they
      are clipped; `numerics/gradient_norm/<index>` where there are several optimizers.
    - `numerics/loss_scale`: what the loss was multiplied with, where there is a loss scaler.
    - `numerics/skipped_steps`: how many steps :class:`~bitladder.Fp16Precision` skipped so far.

    Values that are stored in the training format are rounded already: what underflowed on the way
    there is a `zero`, what was too large is `nonfinite`. Only what exists (a module that ran, a
    gradient that was computed) is logged. With several devices, rank 0 is looked at.

    Args:
        every: Optimizer steps from one sample to the next.
        modules: Name patterns (`fnmatch`) of modules to look at; if empty, every module that has
            a parameter of two dimensions or more: linear layers, convolutions, embeddings.
        formats: Names of the formats to ask about beside the training format.

    Raises:
        UserError: If an argument cannot be, a pattern matches no module, there is no logger, or
            the strategy gives each rank only parts of the tensors.
    """

    def __init__(
        self,
        every: int = 100,
        *,
        modules: Sequence[str] = (),
        formats: Sequence[str] = tuple(FLOAT_FORMATS),
    ) -> None:
        super().__init__()
        if every < 1:
            raise UserError(f"NumericsMonitor: every={every}: write 1 or more")
        self.every = every
        self.modules = tuple(modules)
        self.formats = [get_format(name) for name in formats]
        self._chosen: dict[str, nn.Module] = {}
        self._next_step = 0
        self._step = 0
        self._sample: NumericsSample | None = None
        self._figures: dict[str, float | Tensor] = {}
        self._hooks = ExitStack()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose the modules."""
        if not trainer.loggers:
            raise UserError(
                "NumericsMonitor has nowhere to write without a logger: give the trainer one, such"
                " as CSVLogger, or leave the monitor out"
            )
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise UserError(
                f"NumericsMonitor looks at whole tensors, but {type(trainer.strategy).__name__}"
                " gives each rank parts of them: leave the monitor out"
            )
        self._chosen = choose_modules(pl_module, self.modules)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the first step to look at, now that a checkpoint's is restored."""
        # The steps that are looked at do not depend on where a run was resumed.
        self._next_step = -(-trainer.global_step // self.every) * self.every
        self._sample = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin a sample if its step has come; watch the batch if it belongs to one."""
        if self._sample is None:
            if trainer.global_step < self._next_step or not trainer.is_global_zero:
                return
            self._step, self._figures = trainer.global_step, {}
            training = training_format(trainer.precision_plugin)
            self._sample = NumericsSample(self._chosen, self.formats, training)
            self._sample.count_weights()
        self._hooks.enter_context(self._sample.watching())

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Note the scale that the loss, and so every gradient, was multiplied with."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if self._sample is not None and scaler is not None:
            self._sample.loss_scale = self._figures["loss_scale"] = scaler.get_scale()

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Look at the gradients before they are clipped."""
        if self._sample is None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        plugin = trainer.precision_plugin
        # Lightning's own plugin leaves it to fused optimizers to unscale.
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        scaled = isinstance(plugin, MixedPrecision) and plugin.scaler is not None and fused
        scale = self._sample.loss_scale if scaled else 1.0
        self._sample.count_weight_gradients(parameters, scale)
        index = f"/{trainer.optimizers.index(optimizer)}" if len(trainer.optimizers) > 1 else ""
        if (norm := gradient_norm(parameters)) is not None:
            self._figures[f"gradient_norm{index}"] = norm / scale

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the sample if its step is taken; gradients may still accumulate."""
        if self._sample is None:
            return
        self._hooks.close()
        if trainer.global_step == self._step:
            return
        skipped = getattr(trainer.precision_plugin, "skipped_steps", None)
        figures = self._figures if skipped is None else self._figures | {"skipped_steps": skipped}
        figures = {key: float(value) for key, value in figures.items()} | self._sample.figures()
        figures = {f"numerics/{key}": value for key, value in figures.items()}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=self._step)
        self._sample = None
        self._next_step = (self._step // self.every + 1) * self.every

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave out a sample whose step never came."""
        self._sample = None

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Take the hooks off the modules."""
        self._hooks.close()
        self._sample = None


def training_format(plugin: Precision) -> FloatFormat | None:
    """The format that a precision plugin, ours or Lightning's, trains in; None for float64."""
    if isinstance(plugin, Tf32Precision):
        return TF32
    compute = str(plugin.precision).partition("-")[0]
    return {"32": FP32, "16": FP16, "bf16": BF16}.get(compute)


def choose_modules(module: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """The submodules whose names match one of `patterns`; without any, those with a weight matrix.

    Raises:
        UserError: If a pattern matches no submodule.
    """
    modules = {name: child for name, child in module.named_modules() if name}
    if not patterns:
        return {
            name: child
            for name, child in modules.items()
            if any(parameter.ndim >= 2 for parameter in child.parameters(recurse=False))
        }
    require_matches("NumericsMonitor: modules", patterns, modules, "module")
    return {name: child for name, child in modules.items() if matches(name, patterns)}


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor | None:
    """Euclidean norm of all gradients together, fp32 or wider; None if there are none."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return None
    wide = [torch.promote_types(gradient.dtype, torch.float32) for gradient in gradients]
    norms = [
        torch.linalg.vector_norm(gradient.to_dense(), dtype=dtype).to(gradients[0].device)
        for gradient, dtype in zip(gradients, wide, strict=True)
    ]
    return torch.linalg.vector_norm(torch.stack(norms))
