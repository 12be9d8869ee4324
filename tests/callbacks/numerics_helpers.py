"""A small smooth network, its data, and a logger that remembers."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

Figures = dict[str, float]


class Memory(Logger):
    """Keeps what it is given, by step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, Figures] = {}

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        ours = {key: value for key, value in metrics.items() if key.startswith("numerics/")}
        if ours:
            assert step is not None
            assert step not in self.rows
            self.rows[step] = ours


class Smooth(L.LightningModule):
    """Classifies 4 classes from 8 numbers; tanh, so that no gradient is zero by construction."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4)
        )

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        return F.cross_entropy(self.net(batch[0]).float(), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def batches(count: int = 10, size: int = 16) -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count * size, 8, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :4].argmax(1)), batch_size=size)


def trainer(
    callbacks: Sequence[L.Callback], *loggers: Logger, plugin: Any = None, **settings: Any
) -> L.Trainer:
    defaults: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu"}
    return L.Trainer(
        devices=1,
        logger=list(loggers),
        callbacks=list(callbacks),
        plugins=[plugin] if plugin else None,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **(defaults | settings),
    )


def fit(
    monitor: L.Callback,
    module: L.LightningModule,
    plugin: Any = None,
    loader: Any = None,
    **settings: Any,
) -> dict[int, Figures]:
    """Train, and give what was logged by step."""
    memory = Memory()
    trainer([monitor], memory, plugin=plugin, **settings).fit(module, loader or batches())
    return memory.rows
