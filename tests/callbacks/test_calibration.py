from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from bitladder.callbacks.calibration import calibration_batches, muted, run_step
from bitladder.errors import UserError


def trainer(**attributes: Any) -> Any:
    return SimpleNamespace(**{"datamodule": None, "train_dataloader": None, **attributes})


def test_the_datamodules_own_calibration_data_come_before_the_training_loader() -> None:
    own = SimpleNamespace(calibration_dataloader=lambda: [torch.ones(1)] * 5)
    given = trainer(datamodule=own, train_dataloader=[torch.zeros(1)])
    assert [x.item() for x in calibration_batches(given, 3)] == [1.0] * 3
    assert [
        x.item() for x in calibration_batches(trainer(train_dataloader=[torch.ones(1)]), 3)
    ] == [1.0]


def test_batches_are_fp32_and_integers_stay() -> None:
    loader = [{"x": torch.ones(2, dtype=torch.float16), "y": torch.ones(2, dtype=torch.long)}]
    (batch,) = calibration_batches(trainer(train_dataloader=loader), 1)
    assert batch["x"].dtype == torch.float32
    assert batch["y"].dtype == torch.long


@pytest.mark.parametrize("loader", [None, []])
def test_no_batches_are_refused(loader: Any) -> None:
    with pytest.raises(UserError, match="calibration got no batches"):
        list(calibration_batches(trainer(train_dataloader=loader), 4))


class Module(L.LightningModule):
    def __init__(self, *, automatic: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = automatic
        self.layer = nn.Linear(1, 1)
        self.steps: list[str] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.steps.append("training")
        loss = self.layer(batch).mean()
        assert not loss.requires_grad
        self.log("loss", loss)
        self.log_dict({"loss": loss})
        return loss

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.steps.append("predict")
        return self.layer(batch)


@pytest.mark.parametrize(("automatic", "step"), [(True, "training"), (False, "predict")])
def test_a_step_runs_without_gradients_logs_nothing_and_never_trains(
    automatic: bool, step: str
) -> None:
    module = Module(automatic=automatic)
    with muted(module):
        run_step(module, torch.ones(1, 1), 0)
    assert module.steps == [step]
    assert "log" not in vars(module)
    assert all(x.grad is None for x in module.parameters())
