"""A small network, its data and its Trainer, deterministic and without a logger."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 8


class TrainOnly(L.LightningModule):
    """Classifies 4 classes from 6 numbers; notes what its steps see."""

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        scheduler: Callable[[Any], Any] | None = None,
        interval: str = "step",
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.interval = interval
        self.logit_dtypes: set[torch.dtype] = set()
        self.learning_rates: list[float] = []

    def loss(self, batch: list[Tensor]) -> Tensor:
        x, y = batch
        logits = self.net(x)
        self.logit_dtypes.add(logits.dtype)
        return nn.functional.cross_entropy(logits.float(), y)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.learning_rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters(), lr=0.01)
        if self.make_scheduler is None:
            return optimizer
        scheduler = {"scheduler": self.make_scheduler(optimizer), "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class Task(TrainOnly):
    """The same, to be evaluated as well."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.net(batch[0])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose more to a second thread than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def train_only() -> type[TrainOnly]:
    return TrainOnly


@pytest.fixture
def task_class() -> type[Task]:
    return Task


@pytest.fixture
def loader() -> DataLoader[tuple[Tensor, ...]]:
    """Ten batches of eight, always in the same order."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(10 * BATCH, 6, generator=generator)
    y = (x[:, :4] + 0.1 * torch.randn(10 * BATCH, 4, generator=generator)).argmax(1)
    return DataLoader(TensorDataset(x, y), batch_size=BATCH)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def accelerator(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_trainer() -> Callable[..., L.Trainer]:
    def make(
        plugin: Precision, max_epochs: int = 5, accelerator: str = "cpu", **kwargs: Any
    ) -> L.Trainer:
        return L.Trainer(
            plugins=[plugin],
            accelerator=accelerator,
            devices=1,
            max_epochs=max_epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **kwargs,
        )

    return make
