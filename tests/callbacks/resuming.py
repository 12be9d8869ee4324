"""A training that can be stopped after any batch, to be compared with the one that was not."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from bitladder import LastCheckpoint, RandomState

SAMPLES, BATCH, CLASSES = 36, 4, 3


class KilledError(Exception):
    """Stands for SIGKILL: nothing that handles it may save anything."""


class Net(nn.Module):
    """What dropout and a BatchNorm make hard to repeat."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 12)
        self.rest = nn.Sequential(
            nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first(x))


class Task(L.LightningModule):
    """Logs a sum, a mean, a maximum and a torchmetric over each epoch."""

    def __init__(self, *, plateau: bool | str = False, draws: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.draws = draws
        self.lr = 0.02
        self.net = Net()
        self.plateau = plateau
        self.accuracy = MulticlassAccuracy(CLASSES, average="micro")
        seen: list[Tensor] = []  # by this process alone: a list of the module's would be restored
        self.see, self.all_seen = seen.append, lambda: seen

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        self.see(x.detach().clone())
        logits = self(x).float()
        loss = nn.functional.cross_entropy(logits, y)
        self.accuracy.update(logits, y)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/largest", logits.max(), on_step=False, on_epoch=True, reduce_fx="max")
        self.log("train/accuracy", self.accuracy, on_step=False, on_epoch=True)
        return loss

    def draw(self, hook: str) -> None:
        if hook in self.draws:
            _ = torch.rand(3), random.random(), np.random.rand()

    def on_train_start(self) -> None:
        self.draw("train_start")

    def on_train_epoch_start(self) -> None:
        self.draw("epoch_start")

    def on_validation_end(self) -> None:
        self.draw("validation_end")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.draw("batch_end")
        self.log("train/weight", self.net.first.weight.sum(), on_step=False, on_epoch=True)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val/loss", nn.functional.cross_entropy(self(x).float(), y))
        self.log("val/draw", torch.rand(()))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        if self.plateau:
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
            if self.plateau == "step":
                monitored = {"monitor": "train/loss_step", "interval": "step"}
            else:
                monitored = {"monitor": "val/loss"}
            return [optimizer], [{"scheduler": scheduler, **monitored}]
        # Asking for this makes Lightning iterate the data before it has read the checkpoint.
        steps = max(int(self.trainer.estimated_stepping_batches), 27)  # -1 if there is no length
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=steps + 1)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Samples that draw from every global generator when they are read."""

    def __init__(self, noise: float = 0.1) -> None:
        self.noise = noise
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(SAMPLES, 5, generator=generator)
        self.y = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(5) + random.random() + float(np.random.rand())
        return self.x[index] + self.noise * noise, self.y[index]


class Data(L.LightningDataModule):
    """A researcher's own: a plain shuffled loader, augmentation after the transfer."""

    def __init__(self, workers: int = 0, *, persistent: bool = False) -> None:
        super().__init__()
        self.workers: dict[str, Any] = {"num_workers": workers, "persistent_workers": persistent}
        self.noise = 0.0 if persistent else 0.1

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Noisy(self.noise), batch_size=BATCH, shuffle=True, **self.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        data = Noisy()
        workers = self.workers if self.workers["persistent_workers"] else {}
        return DataLoader(TensorDataset(data.x, data.y), batch_size=12, **workers)

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        x, y = batch
        if self.trainer is not None and self.trainer.training:
            x = x + 0.1 * torch.randn_like(x)
        return [x, y]


class Memory(Logger):
    """Keeps what is logged, and says how much that is."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.rows = rows

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append({"step": step, **metrics})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"rows": len(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        del self.rows[state_dict["rows"] :]


class KillAfter(L.Callback):
    """Kills when so many batches are over, validation and all."""

    def __init__(self, batches: int | None) -> None:
        self.batches = batches

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.total.completed == self.batches:
            raise KilledError


@dataclass
class Fit:
    """How one training went."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    seen: list[Tensor] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    task: Any = None

    def go(
        self,
        *,
        kill_after: int | None = None,
        resume: bool = False,
        workers: int = 0,
        persistent: bool = False,
        plateau: bool | str = False,
        draws: tuple[str, ...] = (),
        data: L.LightningDataModule | None = None,
        task: Callable[[], Task] | None = None,
        seed: int = 7,
        start: Path | None = None,
        callbacks: tuple[L.Callback, ...] = (),
        every_n_steps: int = 1,
        **options: Any,
    ) -> "Fit":
        L.seed_everything(seed, workers=True, verbose=False)
        self.task = task() if task is not None else Task(plateau=plateau, draws=draws)
        trainer = L.Trainer(
            accelerator="cpu",
            default_root_dir=str(self.folder),
            logger=Memory(self.rows),
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=2,
            callbacks=[
                LastCheckpoint(every_n_steps=every_n_steps),
                RandomState(),
                LearningRateMonitor("step"),
                *callbacks,
                ModelCheckpoint(
                    self.folder, "best", monitor="val/loss", enable_version_counter=False
                ),
                KillAfter(kill_after),
            ],
            **{"max_epochs": 3, **options},
        )
        last = self.folder / "checkpoints" / "last.ckpt"
        start = start or (last if resume and last.exists() else None)
        if start is None:
            self.rows.clear()
        try:
            data = data or Data(workers, persistent=persistent)
            trainer.fit(self.task, datamodule=data, ckpt_path=start, weights_only=True)
        except KilledError:
            assert kill_after is not None
        self.seen = self.task.all_seen()
        self.weights = self.task.state_dict()
        return self


def same(a: Fit, b: Fit) -> None:
    """Two trainings ended alike, to the bit."""
    assert a.weights.keys() == b.weights.keys()
    for name, value in a.weights.items():
        assert torch.equal(value, b.weights[name]), name
    assert len(a.rows) == len(b.rows)
    for row, other in zip(a.rows, b.rows, strict=True):
        assert row == other
