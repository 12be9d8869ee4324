from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitladder import FiniteGuard, Fp16Precision
from bitladder.data import Synthetic
from bitladder.errors import RunError

from .conftest import MakeTrainer, Researcher, data, researcher

Batch = tuple[Tensor, Tensor]


class BadData(Synthetic):
    """Its training data turn bad in the second epoch."""

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        x, y = batch
        assert self.trainer is not None
        if self.trainer.training and self.trainer.current_epoch == 1:
            x = x.clone()
            x[0, 0, 0, 0] = torch.nan
        return x, y


def test_nan_in_the_data_stops_before_the_weights_change(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    module = researcher()
    with pytest.raises(RunError, match=r"the data holds NaN or infinity at step \d+ \(epoch 1"):
        make_trainer(FiniteGuard(), epochs=3).fit(module, datamodule=BadData(batch_size=16, seed=1))
    (last,) = tmp_path.rglob("*.ckpt")
    saved = torch.load(last, weights_only=True)["state_dict"]
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
        assert torch.isfinite(tensor).all(), name


def test_a_loss_that_is_nan_stops_before_the_weights_change(make_trainer: MakeTrainer) -> None:
    class BadLoss(Researcher):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * torch.nan if self.global_step == 3 else loss

    module = BadLoss()
    with pytest.raises(RunError, match=r"the loss is nan at step 3 \(epoch 0"):
        make_trainer(FiniteGuard(), epochs=1).fit(module, datamodule=data())
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_an_overflow_of_scaled_gradients_under_fp16_does_not_stop(
    make_trainer: MakeTrainer,
) -> None:
    plugin = Fp16Precision(init_scale=2.0**40)
    make_trainer(FiniteGuard(), epochs=1, plugin=plugin).fit(researcher(), datamodule=data())
    assert plugin.skipped_steps > 0
