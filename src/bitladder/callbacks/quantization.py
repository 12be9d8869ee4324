"""The callback that turns a training into an int8 model."""

import copy
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from bitladder.callbacks.calibration import (
    calibration_batches,
    last_ranges,
    muted,
    run_step,
    step_of,
)
from bitladder.callbacks.deployment import deploy_on_rank_zero
from bitladder.callbacks.float_validation import FloatValidation
from bitladder.callbacks.forwarding import restore_forward, send_forward
from bitladder.callbacks.metric_state import MetricState
from bitladder.callbacks.ranks import on_rank_zero, require_whole_model
from bitladder.callbacks.target import find_target, same_state
from bitladder.errors import UserError
from bitladder.quantization import (
    Activations,
    Call,
    Deployment,
    LayerPlan,
    MinMaxObserver,
    Recipe,
    Schedule,
    Weights,
    average_batch_norms,
    float_copy,
    join_ranks,
    link_batch_norms,
    load_quantization_state,
    plan,
    prepare,
    quantization_state,
    quantized_layers,
    set_observing,
    set_quantizing,
    train_quantizers,
    watch,
)
from bitladder.quantization.artifacts.formats import CudaLinears, Format, check_formats
from bitladder.quantization.artifacts.write import Artifact, write_artifacts
from bitladder.quantization.compile import trace
from bitladder.quantization.copies import without_history
from bitladder.quantization.modes import evaluating, require_train_mode
from bitladder.quantization.recipe import MakeObserver, Method
from bitladder.quantization.schedule import Moment
from bitladder.quantization.state_dict import is_prepared
from bitladder.quantization.trees import on_cpu
from bitladder.quantization.watch import Observed, capture_calls, uncompiled


class Quantization(L.Callback):
    """Quantizes a model during Lightning training and leaves an int8 artifact at its end.

    In ``setup`` the model's layers become twins that can be quantized; nothing else changes, and
    parameter names stay. The first training batch shows which BatchNorm follows which layer.
    ``qat`` then trains with rounding in forward and backward; ``ptq`` and ``dynamic`` train in
    float. At the end of ``fit`` a copy is calibrated if need be, converted, compared with the
    fake-quantized model, compiled, checked for int8 kernels and written; from then on ``validate``,
    ``test`` and ``predict`` run the compiled int8 model, as long as the module has the weights that
    it was made of. With other weights (``test(ckpt_path=...)`` of an earlier epoch) they run the
    module itself and warn: rounded as the checkpoint's training did, in float if it did not. The
    next ``fit`` goes on with the module itself, too.

    With several processes (DDP) every batch's ranges and BatchNorm statistics are those of all
    ranks' data, at each step, so the ranks round with the same scales. Each calibrates on its share
    of the batches; rank 0 converts and writes, then all run the artifact, which must lie in a
    folder that every rank sees.

    Args:
        method: ``dynamic``, ``ptq`` or ``qat``.
        target: Name of the submodule to quantize and deploy. By default the module itself if it
            defines ``forward``, else its only child with parameters.
        observer: Makes the observer of a layer's input from its scheme: a class such as
            :class:`bitladder.quantization.HistogramObserver`, a partial, or your own.
        weight_observer: The same for weights.
        weights: The grid of weights; 8 bits, symmetric, per channel by default.
        activations: The grid of inputs; 8 bits, affine, per tensor by default.
        skip: Name patterns of layers to leave in float.
        only: Name patterns of the layers to quantize, all if empty.
        start: When ``qat`` starts to round: an epoch (int) or a fraction of the training (float).
        freeze_observers: When ``qat`` stops to move the ranges.
        freeze_batchnorm: When ``qat`` stops to update folded BatchNorms.
        calibration_batches: How many batches ``ptq`` calibrates on.
        min_sqnr_db: The least signal-to-quantization-noise ratio, in dB, of every layer on its
            own input and of the output, int8 against fake-quantized; below it the conversion is
            refused.
        artifact: File name of the artifact, below the trainer's ``default_root_dir``.
        export: Which artifacts to leave: ``pt2``, which is the one that runs from then on, and any
            of ``onnx``, ``program`` and ``cuda``; each is proven in a fresh process.
        cuda_linears: What the linears of a ``cuda`` package compute in.
        validate_float: Whether every validation also scores the float model, which rounds nothing:
            what ``validation_step`` logs as ``val/loss`` is there as ``float/val/loss`` too, for
            loggers, ``ModelCheckpoint`` and ``EarlyStopping``. The step then runs twice a batch;
            training does not change.

    Raises:
        UserError: If an argument, a pattern or the target does not fit the model, or the strategy
            keeps it in parts.
        RunError: During ``fit``, if conversion fails; names the layer.
    """

    def __init__(
        self,
        method: Method = "qat",
        *,
        target: str | None = None,
        observer: MakeObserver | None = None,
        weight_observer: MakeObserver | None = None,
        weights: Weights | None = None,
        activations: Activations | None = None,
        skip: Sequence[str] = (),
        only: Sequence[str] = (),
        start: Moment = 0,
        freeze_observers: Moment = 0.75,
        freeze_batchnorm: Moment = 0.75,
        calibration_batches: int = 32,
        min_sqnr_db: float = 15.0,
        artifact: str = "model_int8.pt2",
        export: Sequence[Format] = ("pt2",),
        cuda_linears: CudaLinears = "int8_dynamic",
        validate_float: bool = False,
    ) -> None:
        super().__init__()
        check_formats(export, cuda_linears)
        if calibration_batches < 1:
            raise UserError(
                f"quantization.calibration_batches={calibration_batches}: write at least 1"
            )
        self.recipe = Recipe(
            method=method,
            observer=observer,
            weight_observer=weight_observer or MinMaxObserver,
            weights=weights or Weights(),
            activations=activations or Activations(),
        )
        self.schedule = Schedule(
            start=start, freeze_observers=freeze_observers, freeze_batchnorm=freeze_batchnorm
        )
        self.target = target
        self.skip, self.only = tuple(skip), tuple(only)
        self.calibration_batches = calibration_batches
        self.min_sqnr_db = min_sqnr_db
        self.artifact = artifact
        self.export = tuple(export)
        self.cuda_linears: CudaLinears = cuda_linears
        self.validate_float = validate_float
        self.plans: list[LayerPlan] = []
        self.deployment: Deployment | None = None
        self.artifacts: list[Artifact] = []
        """What was written, and how far the answers of each file are from the model's."""
        self.float_model: nn.Module | None = None
        """The trained model without rounding, on the CPU: the rung that int8 is compared with."""
        self.examples: list[Call] = []
        """Real arguments of the target, on the CPU."""
        self._module: L.LightningModule | None = None
        self._model: nn.Module | None = None
        self._frozen: list[nn.Module] = []
        self._linked = False
        self._watching: ExitStack | None = None
        self._observed: Observed | None = None
        self._first_calls: list[Call] = []
        self._float = FloatValidation()

    @property
    def state_key(self) -> str:
        """One key a target, so that two of these callbacks do not share their state."""
        return f"Quantization[{self.target or ''}]"

    @property
    def model(self) -> nn.Module:
        """The module that is quantized; known from ``setup`` on."""
        assert self._model is not None
        return self._model

    def check(self, module: L.LightningModule) -> None:
        """Refuse, before anything is changed or trained, what :meth:`setup` would refuse.

        A module that is built in ``configure_model`` is not there yet and passes.

        Raises:
            UserError: If the target or a pattern does not fit, or no layer can be quantized.
        """
        if not is_overridden("configure_model", module):
            model = find_target(module, self.target)
            plan(model, self.recipe, skip=self.skip, only=self.only)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Prepare the model, once, before weights are restored and optimizers made."""
        require_whole_model(trainer)
        self._check_averaging(trainer)
        if any(x.artifact == self.artifact for x in _callbacks(trainer) if x is not self):
            raise UserError(
                f"two Quantization callbacks write {self.artifact}: give each its own artifact="
            )
        if pl_module is not self._module:
            if is_overridden("configure_model", pl_module):
                pl_module.configure_model()
            model = find_target(pl_module, self.target)
            others = [x for x in _callbacks(trainer) if x._module is pl_module]
            if is_prepared(model) or any(model in set(x.model.modules()) for x in others):
                raise UserError(
                    f"{type(model).__name__} was quantized by another callback: go on with that"
                    " one, or start from a fresh model"
                )
            self.plans = prepare(model, self.recipe, skip=self.skip, only=self.only)
            self._module, self._model = pl_module, model
            self.deployment, self._linked, self._frozen = None, False, []
        join_ranks(self.model, trainer.world_size > 1)
        self._float = FloatValidation()
        if stage == "fit":
            restore_forward(self.model)
            self.deployment = None
            self._wake_batch_norms()

    def _check_averaging(self, trainer: L.Trainer) -> None:
        """Refuse averages of what is no weight."""
        callbacks = getattr(trainer, "callbacks", [])
        if not any(isinstance(callback, WeightAveraging) for callback in callbacks):
            return
        if self.recipe.method == "qat":
            raise UserError(
                "WeightAveraging also averages the ranges, which are of other weights then: write"
                " StochasticWeightAveraging, which averages the weights alone, or quantize"
                " afterwards with ptq"
            )
        # It pairs its copy's buffers with the module's by their order, and twins bring buffers.
        before = takewhile(lambda callback: callback is not self, callbacks)
        if any(isinstance(callback, WeightAveraging) for callback in before):
            raise UserError(
                "WeightAveraging copies the module before Quantization prepares it: write"
                " Quantization before it in the trainer's callbacks"
            )

    def _wake_batch_norms(self) -> None:
        for norm in self._frozen:
            norm.train()
        self._frozen = []

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Round nothing with the ranges of other weights; a checkpoint that rounds says so."""
        set_quantizing(self.model, False)

    def state_dict(self) -> dict[str, Any]:
        """Ranges, scales, switches and folded BatchNorms."""
        if self._model is None:
            return {}
        return {"linked": self._linked, "layers": quantization_state(self.model)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        if state_dict and self._model is not None:
            load_quantization_state(self.model, state_dict["layers"])
            self._linked = state_dict["linked"]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the phase that the schedule asks for; watch the first batch.

        Raises:
            UserError: If nothing in the module could pass a batch to the model after training.
        """
        if self.recipe.method == "qat":
            if not self._linked:
                require_train_mode(self.model)
            self._set_phase(trainer, batch_idx)
        if not self._linked:
            step_of(pl_module, batch)
            set_quantizing(self.model, False)
            self._watching = ExitStack()
            self._watching.enter_context(uncompiled())
            self._first_calls = self._watching.enter_context(capture_calls(self.model))
            self._observed = self._watching.enter_context(watch(self.model))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Share BatchNorm statistics; after the first batch that ran fold those, try an export."""
        average_batch_norms(self.model)
        if self._watching is None or self._observed is None:
            return
        self._watching.close()
        self._watching = None
        if pl_module.automatic_optimization and not outputs and not self._first_calls:
            return  # The module or FiniteGuard left the batch out: the next is the first that runs.
        self._link(self._observed, self._first_calls)
        # A model that cannot be exported is better known now than after the whole training.
        first = self._first_calls[0]
        call = Call(on_cpu(first.args), on_cpu(first.kwargs))
        name = next(name for name, x in pl_module.named_modules() if x is self.model)
        trace(float_copy(self.model), [call], target=name)

    def _link(self, observed: Observed, calls: list[Call]) -> None:
        """Fold the BatchNorms that one pass has shown."""
        link_batch_norms(self.model, observed)
        self._linked = True
        if not calls:
            raise UserError(
                f"training_step never called the forward of {type(self.model).__name__}, which is"
                " to be quantized: name the submodule that it calls with target="
            )

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Stop watching, if it was the first batch that failed."""
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def _set_phase(self, trainer: L.Trainer, batch_idx: int) -> None:
        epoch, fraction = trainer.current_epoch, _fraction(trainer, batch_idx)
        schedule = self.schedule

        def reached(moment: Moment) -> bool:
            return schedule.reached(moment, epoch=epoch, fraction=fraction)

        # Weight averaging ends with a pass that only learns the statistics of the averaged weights.
        learns_only = trainer.fit_loop._skip_backward
        started = reached(schedule.start)
        frozen = reached(schedule.freeze_observers) and not learns_only
        layers = quantized_layers(self.model).values()
        if started and frozen and not any(x.weight_quantize.observer.saw_data for x in layers):
            raise UserError(
                f"quantization.freeze_observers={schedule.freeze_observers} leaves no batch to"
                f" learn ranges from after quantization.start={schedule.start}; write a later one"
            )
        set_quantizing(self.model, started)
        set_observing(self.model, started and not frozen)
        train_quantizers(self.model)
        if learns_only:
            self._wake_batch_norms()
        elif started and reached(schedule.freeze_batchnorm):
            for layer in layers:
                if layer.batch_norm is not None and layer.batch_norm.training:
                    layer.batch_norm.eval()
                    self._frozen.append(layer.batch_norm)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Calibrate, convert, compare, compile and write; then run int8."""
        if not self._linked:
            raise UserError(
                "every batch was left out, so there is nothing to quantize: the log says why"
                if trainer.fit_loop.epoch_loop.total_batch_idx >= 0
                else "no batch was trained, so there is nothing to quantize: write a larger"
                f" trainer.max_epochs than {trainer.max_epochs}"
            )
        module = copy.deepcopy(pl_module, without_history(pl_module)).float().cpu().eval()
        module.trainer = trainer
        model = find_target(module, self.target)
        if any(isinstance(x, StochasticWeightAveraging) for x in getattr(trainer, "callbacks", [])):
            set_observing(model, True)  # What ranges there are may be those of other weights.
        calls = last_ranges(
            trainer, module, model, method=self.recipe.method, batches=self.calibration_batches
        )
        self.float_model = float_copy(model)
        self.examples = calls
        path = Path(trainer.default_root_dir) / self.artifact
        self.deployment = deploy_on_rank_zero(
            trainer, model.eval(), self.plans, calls, path, min_sqnr_db=self.min_sqnr_db
        )
        write = partial(
            write_artifacts,
            self.export,
            path,
            model,
            calls,
            min_sqnr_db=self.min_sqnr_db,
            cuda_linears=self.cuda_linears,
        )
        self.artifacts = on_rank_zero(trainer, write) or []
        send_forward(self.model, self.deployment.run)

    def after_training(
        self, trainer: L.Trainer, pl_module: L.LightningModule, datamodule: L.LightningDataModule
    ) -> None:
        """Quantize a module that was trained before, by ``ptq`` or ``dynamic``, without a fit.

        Args:
            trainer: Its ``default_root_dir`` is where the artifact goes; it trains nothing.
            pl_module: The module with its trained weights, fp32 on the CPU.
            datamodule: Gives the calibration batches, as in a fit.

        Raises:
            UserError: If the method trains, or the target or a pattern does not fit the model.
            RunError: If conversion fails; names the layer.
        """
        if self.recipe.method == "qat":
            raise UserError("quantization.method=qat needs a training: write ptq or dynamic")
        vars(trainer)["datamodule"] = datamodule  # as a fit does it
        self.setup(trainer, pl_module, "fit")
        (batch,) = calibration_batches(trainer, 1)
        with (
            muted(pl_module),
            evaluating(pl_module),
            capture_calls(self.model) as calls,
            watch(self.model) as observed,
        ):
            run_step(pl_module, batch, 0)
        self._link(observed, calls)
        self.on_fit_end(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Run int8, unless other weights were loaded."""
        self._choose_forward()

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Get ready to score the float model."""
        if self._scores_float(trainer):
            self._float.start(pl_module, [callback.target for callback in _callbacks(trainer)])

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score the float model on the same batch."""
        if self._scores_float(trainer):
            self._float.step(batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what the float model's validation logs at its end."""
        if self._scores_float(trainer):
            self._float.end()

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the scores of the sanity check."""
        self._float = FloatValidation()

    def float_metrics(self) -> dict[str, MetricState]:
        """Where the metrics stand that score the float model, by the names of the module's."""
        return {} if self._module is None else self._float.metrics(self._module)

    def load_float_metrics(self, states: dict[str, MetricState]) -> None:
        """Go on from what :meth:`float_metrics` gave."""
        self._float.load_metrics(states)

    def _scores_float(self, trainer: L.Trainer) -> bool:
        """Of several callbacks that are to, the first does it, for all."""
        asked = [callback for callback in _callbacks(trainer) if callback.validate_float]
        return bool(asked) and asked[0] is self

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Run int8, unless other weights were loaded."""
        self._choose_forward()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Run int8, unless other weights were loaded."""
        self._choose_forward()

    def _choose_forward(self) -> None:
        if self.deployment is None or self.float_model is None:
            return
        if same_state(self.model, self.float_model):
            send_forward(self.model, self.deployment.run)
        else:
            restore_forward(self.model)
            warnings.warn(
                f"the weights are not those of {self.artifact}: the module itself runs, not int8",
                stacklevel=2,
            )


def _callbacks(trainer: L.Trainer) -> list[Quantization]:
    callbacks: list[L.Callback] = getattr(trainer, "callbacks", [])
    return [callback for callback in callbacks if isinstance(callback, Quantization)]


def _fraction(trainer: L.Trainer, batch_idx: int) -> float:
    """How much of the training is done, in [0, 1]."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    done = []
    if epochs is not None and epochs > 0:
        batches = trainer.num_training_batches
        done.append((trainer.current_epoch + batch_idx / batches) / epochs)
    if steps > 0:
        done.append(trainer.global_step / steps)
    return max(done, default=0.0)
