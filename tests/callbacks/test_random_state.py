from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from bitladder import RandomState


class Shuffled(IterableDataset[list[Tensor]]):
    """Of no known length, in an order drawn when it is iterated."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        for index in torch.randperm(12).tolist():
            yield [torch.tensor([index + 1.0])]


class Draws(L.LightningModule):
    """Remembers a random number of every step, and adds it to its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.drawn: list[tuple[int, float]] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        noise = torch.rand(())
        self.drawn.append((self.global_step, noise.item()))
        return self.layer(batch[0]).mean() * noise

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path,
    *,
    random_state: bool = True,
    resume: str | None = None,
    data: Dataset[Any] | None = None,
) -> Draws:
    L.seed_everything(7 if resume is None else 99, verbose=False)
    module = Draws()
    callbacks: list[L.Callback] = [RandomState()] if random_state else []
    callbacks.append(
        ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    )
    L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    ).fit(
        module,
        DataLoader(data or TensorDataset(torch.ones(12, 1)), batch_size=4),
        ckpt_path=resume and str(folder / resume),
        weights_only=True,
    )
    return module


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*exists and is not")
@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before")
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_run_resumed_at_any_step_draws_what_the_whole_one_drew(tmp_path: Path, step: int) -> None:
    whole = fit(tmp_path)
    resumed = fit(tmp_path, resume=f"step={step}.ckpt")
    assert resumed.drawn == whole.drawn[step:]
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*exists and is not")
@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before")
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_data_of_unknown_length_come_in_the_same_order(tmp_path: Path, step: int) -> None:
    whole = fit(tmp_path, data=Shuffled())
    resumed = fit(tmp_path, data=Shuffled(), resume=f"step={step}.ckpt")
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*exists and is not")
@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before")
def test_without_it_they_differ(tmp_path: Path) -> None:
    whole = fit(tmp_path, random_state=False)
    resumed = fit(tmp_path, random_state=False, resume="step=2.ckpt")
    assert resumed.drawn != whole.drawn[2:]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_epochs_do_not_repeat_each_other(tmp_path: Path) -> None:
    drawn = [value for _, value in fit(tmp_path).drawn]
    assert len(set(drawn)) == len(drawn) == 6
