"""Whatever training data come from: a training that was killed reads what the other read."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import (
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, WeightedRandomSampler

from bitladder.errors import UserError

from .resuming import BATCH, SAMPLES, Data, Fit, Noisy, Task, same

pytestmark = pytest.mark.filterwarnings("ignore")
slow = pytest.mark.slow


class Loaded(Data):
    """Training data of whatever kind; batches of several loaders become one."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()
        self.make = make

    def train_dataloader(self) -> Any:
        return self.make()

    def on_before_batch_transfer(self, batch: list[Any], dataloader_idx: int) -> list[Tensor]:
        if isinstance(batch[0], Tensor):
            return batch
        return [torch.cat(part) for part in zip(*batch, strict=True)]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Of no known length, with noise, and through a buffer that is shuffled as it goes."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        data, buffer = Noisy(), []
        for index in torch.randperm(SAMPLES).tolist():
            buffer.append(data[index])
            if len(buffer) > 8:
                yield buffer.pop(random.randrange(8))
        yield from buffer


class Placed:
    """A loader that keeps its place itself; its order is the epoch's."""

    def __init__(self) -> None:
        self.epoch = self.at = 0

    def __iter__(self) -> Iterator[list[Tensor]]:
        data = Noisy(0.0)
        if self.at == SAMPLES // BATCH:
            self.epoch, self.at = self.epoch + 1, 0
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(self.epoch))
        while self.at < SAMPLES // BATCH:
            chosen = order[self.at * BATCH :][:BATCH]
            self.at += 1
            yield [data.x[chosen], data.y[chosen]]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.at = state["epoch"], state["at"]


class PlacedWithLength(Placed):
    def __len__(self) -> int:
        return SAMPLES // BATCH


class OwnNoise(Noisy):
    """Samples with noise of generators of the data set's own, one of each library."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.torch = torch.Generator().manual_seed(3)
        self.numpy = np.random.default_rng(3)
        self.old = [np.random.RandomState(3)]
        self.python = random.Random(3)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        noise = torch.randn(5, generator=self.torch) + self.numpy.normal() + self.old[0].normal()
        return x + 0.1 * (noise + self.python.gauss()), y


class OwnBatches:
    """A batch sampler that draws from NumPy, anew in each epoch."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def __len__(self) -> int:
        return SAMPLES // BATCH

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            if isinstance(self.generator, torch.Generator):
                yield torch.randint(SAMPLES, (BATCH,), generator=self.generator).tolist()
            else:
                yield self.generator.integers(SAMPLES, size=BATCH).tolist()


def shuffled(**options: Any) -> DataLoader[Any]:
    return DataLoader(Noisy(), batch_size=BATCH, shuffle=True, **options)


LOADERS: dict[str, Callable[[], Any]] = {
    "generator": lambda: shuffled(generator=torch.Generator().manual_seed(1)),
    "two": lambda: [
        shuffled(),
        DataLoader(torch.utils.data.Subset(Noisy(), range(12)), batch_size=BATCH, shuffle=True),
    ],
    "stream": lambda: DataLoader(Stream(), batch_size=BATCH),
    "placed": lambda: PlacedWithLength(),
    "placed stream": Placed,
    "weighted": lambda: DataLoader(
        Noisy(), batch_size=BATCH, sampler=WeightedRandomSampler([1.0] * SAMPLES, SAMPLES)
    ),
    "own noise": lambda: DataLoader(OwnNoise(), batch_size=BATCH, shuffle=True),
    "own batches": lambda: DataLoader(
        Noisy(), batch_sampler=OwnBatches(torch.Generator().manual_seed(4))
    ),
    "numpy batches": lambda: DataLoader(
        Noisy(), batch_sampler=OwnBatches(np.random.default_rng(4))
    ),
}


@pytest.mark.parametrize("batches", [4, 8, 9, pytest.param(12, marks=slow)])
@pytest.mark.parametrize("kind", LOADERS)
def test_every_kind_of_loader_goes_on(tmp_path: Path, kind: str, batches: int) -> None:
    def data() -> L.LightningDataModule:
        return Loaded(LOADERS[kind])

    whole = Fit(tmp_path / "whole").go(data=data())
    killed = Fit(tmp_path / "killed").go(data=data(), kill_after=batches)
    same(killed.go(data=data(), resume=True), whole)
    assert len(killed.seen) == 27 - batches
    for seen, other in zip(killed.seen, whole.seen[batches:], strict=True):
        assert torch.equal(seen, other)


class ShuffledValidation(Data):
    """Validates in an order of a generator's own, which goes on from one validation to the next."""

    def val_dataloader(self) -> DataLoader[Any]:
        return shuffled(generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("interval", [1.0, 3])
@pytest.mark.parametrize("batches", [4, 13, 20])
def test_validations_in_some_epochs_go_on_in_their_own_order(
    tmp_path: Path, batches: int, interval: float
) -> None:
    options: dict[str, Any] = {
        **{"check_val_every_n_epoch": 2, "val_check_interval": interval},
        **{"num_sanity_val_steps": 0, "max_epochs": 4},
    }
    whole = Fit(tmp_path / "whole").go(data=ShuffledValidation(), **options)
    killed = Fit(tmp_path / "killed")
    killed.go(data=ShuffledValidation(), kill_after=batches, **options)
    same(killed.go(data=ShuffledValidation(), resume=True, **options), whole)


class OwnAugmentation(Data):
    """Draws from generators of its own after the transfer, in training as in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(8)
        data = OwnNoise()
        self.validation = DataLoader(data, batch_size=12)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.validation

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        x, y = batch
        return [x + 0.1 * torch.randn(x.shape, generator=self.generator), y]


class OwnDropout(Task):
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(9)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x * torch.bernoulli(torch.full(x.shape, 0.8), generator=self.generator)
        return super().forward(x)


class OwnCallback(L.Callback):
    def __init__(self) -> None:
        self.rng = random.Random(10)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        batch[0] += self.rng.gauss()


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 3}], ids=str)
@pytest.mark.parametrize("batches", [4, 9, 26, pytest.param(12, marks=slow)])
def test_generators_of_ones_own_go_on_wherever_they_are(
    tmp_path: Path, batches: int, options: dict[str, Any]
) -> None:
    def go(fit: Fit, **more: Any) -> Fit:
        callbacks = (OwnCallback(),)
        return fit.go(
            data=OwnAugmentation(), task=OwnDropout, callbacks=callbacks, **options, **more
        )

    whole, killed = go(Fit(tmp_path / "whole")), go(Fit(tmp_path / "killed"), kill_after=batches)
    same(go(killed, resume=True), whole)


def test_after_training_they_stand_where_they_stood(tmp_path: Path) -> None:
    whole, again = OwnAugmentation(), OwnAugmentation()
    fit = Fit(tmp_path).go(data=whole)
    fit.go(data=again, resume=True)
    for one, other in ((whole.generator, again.generator), (noise(whole), noise(again))):
        assert torch.equal(one.get_state(), other.get_state())


def noise(data: OwnAugmentation) -> torch.Generator:
    assert isinstance(data.validation.dataset, OwnNoise)
    return data.validation.dataset.torch


def test_a_checkpoint_of_other_generators_is_told(tmp_path: Path) -> None:
    fit = Fit(tmp_path).go(task=OwnDropout, kill_after=4)
    with pytest.warns(UserWarning, match="knows 1 of them and there are 0"):
        fit.go(resume=True)


@pytest.mark.parametrize("batches", [4, pytest.param(9, marks=slow), pytest.param(12, marks=slow)])
@pytest.mark.parametrize("hook", ["train_start", "epoch_start", "batch_end", "validation_end"])
@pytest.mark.parametrize("options", [{}, {"val_check_interval": 3}], ids=str)
def test_a_module_may_draw_in_its_hooks(
    tmp_path: Path, hook: str, options: dict[str, Any], batches: int
) -> None:
    options |= {"draws": (hook,)}
    whole = Fit(tmp_path / "whole").go(**options)
    killed = Fit(tmp_path / "killed").go(kill_after=batches, **options)
    same(killed.go(resume=True, **options), whole)


@pytest.mark.parametrize("batches", [9, 12])
@pytest.mark.parametrize(
    "options", [{"plateau": "step"}, {"plateau": "step", "val_check_interval": 3}], ids=str
)
def test_a_schedule_that_waits_for_a_plateau_of_steps_moves_once(
    tmp_path: Path, options: dict[str, Any], batches: int
) -> None:
    whole = Fit(tmp_path / "whole").go(**options)
    killed = Fit(tmp_path / "killed").go(kill_after=batches, **options)
    same(killed.go(resume=True, **options), whole)


def test_accumulation_may_change_from_epoch_to_epoch(tmp_path: Path) -> None:
    def options() -> dict[str, Any]:
        return {"callbacks": (GradientAccumulationScheduler({0: 1, 1: 3}),)}

    whole = Fit(tmp_path / "whole").go(**options())
    killed = Fit(tmp_path / "killed").go(kill_after=12, **options())
    same(killed.go(resume=True, **options()), whole)


@pytest.mark.parametrize("hook", [{"save_on_train_epoch_end": True}, {"monitor": "val/draw"}])
def test_loaders_made_anew_go_on_from_the_end_of_an_epoch(
    tmp_path: Path, hook: dict[str, Any]
) -> None:
    def go(name: str, **more: Any) -> Fit:
        keep = ModelCheckpoint(tmp_path / name / "checkpoints", "{epoch}", save_top_k=-1, **hook)
        fit = Fit(tmp_path / name)
        return fit.go(callbacks=(keep,), reload_dataloaders_every_n_epochs=1, **more)

    whole = go("whole")
    resumed = go("whole", start=tmp_path / "whole" / "checkpoints" / "epoch=1.ckpt")
    for name, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[name]), name


def test_no_sample_of_a_stream_that_comes_once_is_lost(tmp_path: Path) -> None:
    class Once(IterableDataset[tuple[Tensor, Tensor]]):
        def __init__(self) -> None:
            self.left = iter(range(SAMPLES))

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for index in self.left:
                yield torch.full((5,), float(index)), torch.tensor(0)

    data = Loaded(lambda: DataLoader(Once(), batch_size=BATCH))
    assert len(Fit(tmp_path).go(data=data, max_epochs=1).seen) == SAMPLES // BATCH


def test_another_run_from_a_checkpoint_draws_from_its_own_seed(tmp_path: Path) -> None:
    Fit(tmp_path / "first").go(max_epochs=1, plateau=True)
    start = (tmp_path / "first/checkpoints/last.ckpt").rename(tmp_path / "start.ckpt")
    one, two, again = (
        Fit(tmp_path / name).go(start=start, seed=seed, plateau=True)
        for name, seed in (("one", 1), ("two", 2), ("again", 1))
    )
    assert not torch.equal(one.seen[0], two.seen[0])
    same(one, again)


def test_averages_that_no_checkpoint_has_are_refused(tmp_path: Path) -> None:
    def options() -> dict[str, Any]:
        return {"callbacks": (StochasticWeightAveraging(0.01, swa_epoch_start=2),)}

    Fit(tmp_path).go(kill_after=12, **options())
    with pytest.raises(UserError, match="keeps its averages out of checkpoints"):
        Fit(tmp_path).go(resume=True, **options())


def test_what_lightning_puts_first_may_stand_first(tmp_path: Path) -> None:
    finder = LearningRateFinder(num_training_steps=4, attr_name="lr")
    assert len(Fit(tmp_path).go(callbacks=(finder,), max_epochs=1).seen) >= 9
