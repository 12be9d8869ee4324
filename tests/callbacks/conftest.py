from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F

from bitladder import Fp32Precision, Quantization, RandomState
from bitladder.data import Synthetic

MakeTrainer = Callable[..., L.Trainer]


class Net(nn.Module):
    """Convolution with BatchNorm, dropout, and a branch on ``self.training``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        if self.training:
            x = self.drop(x)
        return self.head(x.mean((2, 3)))


class Researcher(L.LightningModule):
    """Somebody's own module: it knows nothing of bitladder."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch[0]).float(), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self.net(batch[0]).float(), batch[1]))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        accuracy = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("test/accuracy", accuracy)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.net(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Makes a quiet trainer whose files go to the test's folder."""

    def make(*callbacks: L.Callback, epochs: int, plugin: Any = None) -> L.Trainer:
        folder = tmp_path / "checkpoints"
        keep = ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1)
        return L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=epochs,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            plugins=[plugin or Fp32Precision()],
            callbacks=[*callbacks, RandomState(), keep],
        )

    return make


def researcher(seed: int = 0) -> Researcher:
    L.seed_everything(seed, verbose=False)
    return Researcher()


def data() -> Synthetic:
    return Synthetic(batch_size=16, seed=1)


class WithoutArtifact(Quantization):
    """Stops before the conversion, which takes seconds that a test of training need not pay."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pass
