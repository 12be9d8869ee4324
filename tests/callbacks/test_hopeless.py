"""Runs that are given up."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch

from bitladder.callbacks import StopHopeless
from bitladder.data import Synthetic
from bitladder.errors import HopelessError
from bitladder.models import MLP
from bitladder.tasks import Classification


def fit(callback: StopHopeless, folder: Path, *, epochs: int = 4) -> L.Trainer:
    torch.manual_seed(0)
    net = MLP(input_shape=(1, 8, 8), num_classes=4, hidden=[8])
    task = Classification(net, partial(torch.optim.SGD, lr=1e-9), num_classes=4)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(task, datamodule=Synthetic(batch_size=32, seed=1))
    return trainer


def test_a_run_below_the_floor_ends_and_says_so(tmp_path: Path) -> None:
    callback = StopHopeless("val/accuracy", [2.0, 2.0, 2.0], grace=1)
    with pytest.raises(HopelessError, match=r"val/accuracy was at best 0\.\d+ after 2 .* had 2:"):
        fit(callback, tmp_path)


def test_a_loss_is_judged_the_other_way(tmp_path: Path) -> None:
    fit(StopHopeless("val/loss", [99.0] * 4, "min", grace=0), tmp_path)
    with pytest.raises(HopelessError, match="after 1 validations"):
        fit(StopHopeless("val/loss", [0.0] * 4, "min", grace=0), tmp_path)


@pytest.mark.parametrize("floor", [[], [0.0] * 9, [9.0]])
def test_a_run_that_keeps_up_ends_as_ever(tmp_path: Path, floor: list[float]) -> None:
    assert fit(StopHopeless("val/accuracy", floor, grace=1), tmp_path).current_epoch == 4


def test_the_same_score_is_not_below(tmp_path: Path) -> None:
    trainer = fit(StopHopeless("val/accuracy", []), tmp_path)
    score = float(trainer.callback_metrics["val/accuracy"])
    fit(StopHopeless("val/accuracy", [score] * 4, grace=0), tmp_path)


def test_what_it_saw_is_in_the_checkpoint(tmp_path: Path) -> None:
    callback = StopHopeless("val/accuracy", [])
    fit(callback, tmp_path, epochs=2)
    other = StopHopeless("val/accuracy", [9.0] * 3, grace=0)
    other.load_state_dict(callback.state_dict())
    with pytest.raises(HopelessError, match="after 3 validations"):
        fit(other, tmp_path)
