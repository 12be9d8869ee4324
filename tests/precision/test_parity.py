"""On a GPU: training in fewer bits ends where float32 ends."""

from collections.abc import Callable
from functools import cache, partial

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from bitladder.data import Digits
from bitladder.models import ResNet, VisionTransformer
from bitladder.precision import (
    Bf16Precision,
    Bf16TruePrecision,
    Fp8Precision,
    Fp16Precision,
    Fp32Precision,
    LadderPrecision,
    Tf32Precision,
)
from bitladder.tasks import Classification

STEPS = 500
LAST = 50

MODELS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: VisionTransformer((1, 8, 8), 10, dim=64, depth=3, heads=4),
    "resnet": lambda: ResNet((1, 8, 8), 10, widths=(16, 32), blocks=(1, 1)),
}
REDUCED: dict[str, Callable[[], LadderPrecision]] = {
    "tf32": Tf32Precision,
    "fp16": Fp16Precision,
    "bf16": Bf16Precision,
    "bf16_true": partial(Bf16TruePrecision, stochastic_rounding=True),
    "fp8": Fp8Precision,
}


class Losses(L.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        assert isinstance(loss, Tensor)
        self.values.append(loss.item())


def final_loss(model: str, make: Callable[[], LadderPrecision]) -> float:
    """The mean training loss of the last steps.

    Labels are smoothed, so the loss ends near 0.5 and not near 0, where no ratio says anything.
    """
    L.seed_everything(1, verbose=False)
    losses = Losses()
    task = Classification(MODELS[model](), partial(torch.optim.AdamW, lr=1e-3), label_smoothing=0.1)
    trainer = L.Trainer(
        accelerator="gpu",
        devices=1,
        max_steps=STEPS,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        plugins=[make()],
        callbacks=[losses],
    )
    trainer.fit(task, datamodule=Digits(batch_size=64, seed=1))
    assert len(losses.values) == STEPS
    return sum(losses.values[-LAST:]) / LAST


@cache
def float32_loss(model: str) -> float:
    return final_loss(model, Fp32Precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*you defined a `validation_step`")
@pytest.mark.filterwarnings(
    "ignore:precision=fp8. no linear of this model"
)  # the ResNet's only one
def test_after_500_steps_the_loss_is_within_2_percent_of_float32(
    model: str, precision: str
) -> None:
    expected, found = float32_loss(model), final_loss(model, REDUCED[precision])
    print(f"{model} {precision}: {found:.4f} against {expected:.4f}")
    assert abs(found / expected - 1) < 0.02
