"""Real batches for a model outside the training loop."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from bitladder.errors import RunError, UserError
from bitladder.quantization import Call, quantized_layers
from bitladder.quantization.calibrate import calibrating, finish
from bitladder.quantization.ranks import rank_and_size, share
from bitladder.quantization.recipe import Method
from bitladder.quantization.trees import on_cpu
from bitladder.quantization.watch import capture_calls, with_samples

COMPARED_BATCHES = 4
"""How many calibration batches int8 and fake-quantized are compared on."""


@runtime_checkable
class Guard(Protocol):
    """A callback that looks at batches."""

    def admits(self, batch: Any, batch_idx: int) -> bool:
        """Whether to calibrate on a batch."""
        ...


def calibration_batches(trainer: L.Trainer, count: int) -> Iterator[Any]:
    """The first ``count`` batches of the training data, fp32 on the CPU.

    A datamodule may offer ``calibration_dataloader()``, which gives training samples without
    augmentation and in a fixed order; otherwise the training loader is used as it is. Under data
    parallelism each rank gets its share of them, equally many. A callback that has ``admits``
    (:class:`FiniteGuard`) decides which of them count.

    Raises:
        UserError: If there are no batches, or fewer than ranks.
        RunError: If a batch holds NaN or infinity and a callback does not leave it out.
    """
    datamodule = getattr(trainer, "datamodule", None)
    offered = getattr(datamodule, "calibration_dataloader", None)
    loader: Iterable[Any] | None = offered() if offered else trainer.train_dataloader
    callbacks: list[L.Callback] = getattr(trainer, "callbacks", [])
    guards = [callback for callback in callbacks if isinstance(callback, Guard)]
    admitted = (
        batch
        for index, batch in enumerate(loader or ())
        if all(guard.admits(batch, index) for guard in guards)
    )
    seen = 0
    # Under data parallelism the training loader gives each rank batches of its own already.
    for batch in share(admitted, count, split=offered is not None):
        seen += 1
        yield on_cpu(move_data_to_device(batch, torch.device("cpu")))
    if not seen:
        _, size = rank_and_size()
        fewer = f", or there are fewer batches than the {size} processes" if size > 1 else ""
        raise UserError(
            "calibration got no batches: the training data is empty, or"
            f" quantization.calibration_batches={count} is below 1{fewer}"
        )


def last_ranges(
    trainer: L.Trainer,
    module: L.LightningModule,
    model: nn.Module,
    *,
    method: Method,
    batches: int,
) -> list[Call]:
    """Learn the ranges that training left open, and keep some real calls of the model.

    Args:
        trainer: The trainer, its training ended.
        module: A copy of the module, fp32 on the CPU, in eval mode.
        model: The prepared model in it.
        method: How it is quantized.
        batches: How many batches ``ptq`` calibrates on.

    Returns:
        Calls that int8 and fake-quantized are compared on.

    Raises:
        UserError: If there are no batches, or ``training_step`` cannot run outside training.
        RunError: If no batch led to a call of the model.
    """
    count = batches if method == "ptq" else COMPARED_BATCHES
    known = method == "qat" and not any(
        layer.weight_quantize.observing for layer in quantized_layers(model).values()
    )
    calls: list[Call] = []
    with muted(module), nullcontext() if known else calibrating(model, inputs=method == "ptq"):
        for index, batch in enumerate(calibration_batches(trainer, count)):
            with capture_calls(model) as seen:
                run_step(module, batch, index)
            calls += with_samples(seen) if index < COMPARED_BATCHES else []
    finish(model)
    if not calls:
        raise RunError("calibration never called the model that is to be quantized")
    return calls


def run_step(module: L.LightningModule, batch: Any, index: int) -> None:
    """Pass one batch through the module the way its own training does, without gradients.

    It runs in whatever mode the module is in.

    Raises:
        UserError: As :func:`step_of` does.
    """
    with torch.no_grad():
        step_of(module, batch)(batch, index)


def step_of(module: L.LightningModule, batch: Any) -> Callable[[Any, int], object]:
    """What knows how a batch becomes arguments of the module's models: its ``training_step``.

    Under manual optimization that would train, so ``predict_step`` or ``validation_step`` runs,
    whichever the module has. Lightning's own ``predict_step`` gives ``forward`` the whole batch.

    Raises:
        UserError: If the module trains by hand, has neither, and a batch is more than a tensor.
    """
    if module.automatic_optimization:
        return module.training_step
    for name in ("predict_step", "validation_step"):
        if is_overridden(name, module):
            return getattr(module, name)
    if not isinstance(batch, Tensor):
        raise UserError(
            f"{type(module).__name__} optimizes by hand, so its training_step cannot run for"
            " calibration: give it a predict_step or a validation_step"
        )
    return module.predict_step


@contextmanager
def muted(module: L.LightningModule) -> Iterator[None]:
    """Let ``module.log`` do nothing inside the block: there is no loop to collect it."""
    names = ("log", "log_dict")
    module.__dict__.update(dict.fromkeys(names, _nothing))
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(
            f"calibration cannot call {type(module).__name__}.training_step outside training:"
            f" {error}"
        ) from error
    finally:
        for name in names:
            del module.__dict__[name]


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass
