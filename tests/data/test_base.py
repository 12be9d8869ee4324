from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from bitladder.data import Batch, Synthetic
from bitladder.data.sampler import EpochSampler
from bitladder.errors import UserError


class Recorder(L.LightningModule):
    """Keeps what each loop was given, and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[str, list[Batch]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen["train"].append(batch)
        return self.weight.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["val"].append(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["test"].append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Shouting(Synthetic):
    """Augments by adding 100."""

    def augment_batch(self, x: Tensor) -> Tensor:
        return x + 100.0


def trainer(folder: Path, max_epochs: int = 1) -> L.Trainer:
    return L.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def images(batches: Iterable[Batch]) -> Tensor:
    return torch.cat([x for x, _ in batches])


def rows(x: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in x.flatten(1).tolist()}


def test_batches_are_float_images_and_integer_labels() -> None:
    data = Synthetic(batch_size=8)
    x, y = next(iter(data.train_dataloader()))
    assert (x.shape, x.dtype) == ((8, *data.input_shape), torch.float32)
    assert (y.shape, y.dtype) == ((8,), torch.int64)
    assert y.min() >= 0
    assert y.max() < data.num_classes == len(data.class_names)


def test_training_drops_the_last_small_batch_and_evaluation_does_not() -> None:
    data = Synthetic(batch_size=20, num_samples=160)
    assert [len(y) for _, y in data.train_dataloader()] == [20] * 4
    assert sum(len(y) for _, y in data.val_dataloader()) == 32
    assert sum(len(y) for _, y in data.test_dataloader()) == 32
    assert sum(len(y) for _, y in data.calibration_dataloader()) == 96


def test_the_splits_share_no_image() -> None:
    data = Synthetic()
    loaders = [data.calibration_dataloader(), data.val_dataloader(), data.test_dataloader()]
    parts = [rows(images(loader)) for loader in loaders]
    assert len(parts[0] | parts[1] | parts[2]) == sum(len(part) for part in parts) == 160


def test_only_training_is_shuffled_anew() -> None:
    data = Synthetic()
    for loader in (data.val_dataloader(), data.test_dataloader(), data.calibration_dataloader()):
        assert torch.equal(images(loader), images(loader))
    again = Synthetic()
    assert torch.equal(
        images(data.calibration_dataloader()), images(again.calibration_dataloader())
    )
    loader = data.train_dataloader()
    first = images(loader)
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(1)
    assert not torch.equal(images(loader), first)
    assert rows(images(loader)) == rows(first) == rows(images(data.calibration_dataloader()))


def test_calibration_shows_all_classes_early() -> None:
    _, y = next(iter(Synthetic(batch_size=32).calibration_dataloader()))
    assert len(y.unique()) == 4


def test_augmentation_is_for_the_training_loop_alone(tmp_path: Path) -> None:
    data, module = Shouting(batch_size=16), Recorder()
    data.augment = True
    runner = trainer(tmp_path)
    runner.fit(module, datamodule=data)
    runner.validate(module, datamodule=data, verbose=False)
    runner.test(module, datamodule=data, verbose=False)
    assert images(module.seen["train"]).min() > 50
    assert images(module.seen["val"]).max() < 50
    assert images(module.seen["test"]).max() < 50
    assert images(data.calibration_dataloader()).max() < 50
    plain = Shouting(batch_size=16)
    module = Recorder()
    trainer(tmp_path).fit(module, datamodule=plain)
    assert images(module.seen["train"]).max() < 50


def test_a_run_resumed_after_an_epoch_sees_the_batches_it_would_have_seen(tmp_path: Path) -> None:
    whole = Recorder()
    trainer(tmp_path, max_epochs=2).fit(whole, datamodule=Synthetic())
    begun, checkpoint = trainer(tmp_path, max_epochs=1), tmp_path / "epoch.ckpt"
    begun.fit(Recorder(), datamodule=Synthetic())
    begun.save_checkpoint(checkpoint)
    torch.manual_seed(99)
    resumed = Recorder()
    trainer(tmp_path, max_epochs=2).fit(
        resumed, datamodule=Synthetic(), ckpt_path=checkpoint, weights_only=True
    )
    epoch = len(resumed.seen["train"])
    assert epoch == 6
    first, second = whole.seen["train"][:epoch], whole.seen["train"][epoch:]
    assert torch.equal(images(resumed.seen["train"]), images(second))
    assert not torch.equal(images(first), images(second))


def test_the_fingerprint_tells_the_data_and_not_how_it_is_loaded() -> None:
    original = Synthetic().fingerprint()
    assert len(original) == 64
    assert original == Synthetic(batch_size=4).fingerprint()
    other = Synthetic()
    other.normalization = replace(other.normalization, mean=0.4)
    assert other.fingerprint() != original
    assert Synthetic(num_samples=161).fingerprint() != original


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_the_fingerprint_covers_every_split(name: str) -> None:
    original, changed = Synthetic(), Synthetic()
    part = getattr(changed.splits, name)
    part.pixels[-1] = 255 - part.pixels[-1]
    assert changed.fingerprint() != original.fingerprint()


def test_worker_processes_give_the_same_batches() -> None:
    expected = images(Synthetic().train_dataloader())
    assert torch.equal(images(Synthetic(num_workers=1).train_dataloader()), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "data.batch_size=0: write a number of at least 1"),
        ({"num_workers": -1}, "data.num_workers=-1: write a number of at least 0"),
        ({"seed": -1}, "data.seed=-1: write a number of 0 to 4294967295"),
        ({"seed": 2**32}, "data.seed=4294967296"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Synthetic(**arguments)


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size=97 is more than the 96 training images"):
        Synthetic(batch_size=97, num_samples=160).setup("fit")
