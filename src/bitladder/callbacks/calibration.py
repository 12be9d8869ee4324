"""Real batches for a model outside the training loop."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.fabric.utilities.exceptions import MisconfigurationException

from bitladder.errors import UserError
from bitladder.quantization.trees import on_cpu


def calibration_batches(trainer: L.Trainer, count: int) -> Iterator[Any]:
    """The first ``count`` batches of the training data, fp32 on the CPU.

    A datamodule may offer ``calibration_dataloader()``, which gives training samples without
    augmentation and in a fixed order; otherwise the training loader is used as it is.

    Raises:
        UserError: If there are no batches.
    """
    datamodule = getattr(trainer, "datamodule", None)
    offered = getattr(datamodule, "calibration_dataloader", None)
    loader: Iterable[Any] | None = offered() if offered else trainer.train_dataloader
    seen = 0
    for batch in islice(loader or (), count):
        seen += 1
        yield on_cpu(move_data_to_device(batch, torch.device("cpu")))
    if not seen:
        raise UserError(
            "calibration got no batches: the training data is empty, or"
            f" quantization.calibration_batches={count} is below 1"
        )


def run_step(module: L.LightningModule, batch: Any, index: int) -> None:
    """Pass one batch through the module the way its own training does, without gradients.

    ``training_step`` is what knows how a batch becomes arguments of the model; it runs in whatever
    mode the module is in. Under manual optimization it would train, so ``predict_step`` runs.
    """
    step = module.training_step if module.automatic_optimization else module.predict_step
    with torch.no_grad():
        step(batch, index)


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
