from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bitladder import Quantization
from bitladder.callbacks.calibration import calibration_batches, muted, run_step
from bitladder.errors import UserError
from bitladder.quantization.watch import capture_calls


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


class ByHand(L.LightningModule):
    """Optimizes by hand, and has no step but those that a test gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        raise AssertionError("it would train")


class Validates(ByHand):
    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self(batch[0])


def test_a_module_that_optimizes_by_hand_may_have_a_validation_step_alone() -> None:
    module = Validates()
    with capture_calls(module.layer) as calls:
        run_step(module, [torch.ones(1, 1), torch.ones(1)], 0)
    assert len(calls) == 1


def test_lightnings_own_predict_step_takes_batches_that_are_tensors() -> None:
    with pytest.raises(UserError, match="give it a predict_step or a validation_step"):
        run_step(ByHand(), [torch.ones(1, 1), torch.ones(1)], 0)
    module = ByHand()
    with capture_calls(module.layer) as calls:
        run_step(module, torch.ones(1, 1), 0)
    assert len(calls) == 1


@pytest.mark.filterwarnings("ignore")  # what Lightning advises depends on the machine
def test_what_calibration_will_lack_is_said_before_the_first_step() -> None:
    class Module(ByHand):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = TensorDataset(torch.ones(4, 1), torch.ones(4))
    trainer = L.Trainer(
        max_epochs=1,
        callbacks=[Quantization("ptq", target="layer")],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    with pytest.raises(UserError, match="give it a predict_step or a validation_step"):
        trainer.fit(Module(), DataLoader(data, batch_size=2))
