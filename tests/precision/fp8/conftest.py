"""A transformer small enough to emulate fp8 in, as a model and as a task."""

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

DIM, TOKENS, BATCH, VOCABULARY = 32, 8, 8, 16


class Block(nn.Module):
    """A feed-forward block; its linears are `up` and `down`."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Net(nn.Module):
    """Embedding, two blocks, a linear of odd size, head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, DIM)
        self.blocks = nn.Sequential(Block(), Block())
        self.odd = nn.Linear(DIM, 20)
        self.head = nn.Linear(20, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.odd(self.blocks(self.embed(ids))))


class Task(L.LightningModule):
    """Learns to say the token before; notes the type of the logits."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = Net() if net is None else net
        self.dtypes: set[torch.dtype] = set()
        self.losses: list[float] = []

    def loss(self, batch: list[Tensor]) -> Tensor:
        ids, targets = batch
        logits = self.net(ids)
        self.dtypes.add(logits.dtype)
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.net(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


CONVERTED = [f"net.blocks.{i}.{name}" for i in (0, 1) for name in ("up", "down")]


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def make_task() -> Callable[..., Task]:
    return Task


@pytest.fixture
def converted() -> list[str]:
    """The linears of the task that can run in fp8."""
    return CONVERTED


@pytest.fixture
def ids() -> DataLoader[tuple[Tensor, ...]]:
    """Five batches of sequences; the target at a place is the token before it."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCABULARY, (5 * BATCH, TOKENS), generator=generator)
    return DataLoader(TensorDataset(ids, ids.roll(1, 1) % 2), batch_size=BATCH)
