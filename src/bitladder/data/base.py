"""What all data sets of images share: splits, loaders, augmentation, fingerprint."""

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from bitladder.data.images import Batch, ImageDataset, Images, Normalization, keep_batch
from bitladder.data.sampler import EpochSampler, seeded_generator
from bitladder.data.splits import Splits
from bitladder.errors import UserError

LARGEST_SEED = 2**32 - 1


class ImageDataModule(LightningDataModule, ABC):
    """Images in memory, in fixed splits, as batches ``(x, y)`` of :data:`Batch`.

    A data set says what it is in the class attributes and reads itself in :meth:`load`.

    Args:
        batch_size: Images a batch, for all loaders. Training drops a last, smaller batch.
        seed: Fixes the splits, the training order (with the epoch) and the calibration order.
        num_workers: Loader processes. Data in memory needs none.
        augment: Whether training batches go through :meth:`augment_batch`.

    Raises:
        UserError: If an argument is out of range.
    """

    num_classes: int
    """Number of classes."""
    input_shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    class_names: tuple[str, ...]
    """A name for every class."""
    normalization: Normalization
    """How pixels become a model's input: whoever ships the model must do the same."""

    def __init__(
        self, batch_size: int, seed: int, num_workers: int = 0, augment: bool = False
    ) -> None:
        super().__init__()
        self._require("batch_size", batch_size, at_least=1)
        self._require("num_workers", num_workers, at_least=0)
        self._require("seed", seed, at_least=0, at_most=LARGEST_SEED)
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.augment = augment

    @abstractmethod
    def load(self) -> Splits:
        """Read the data from where it lies and split it.

        Raises:
            UserError: If the data is missing or damaged.
        """

    def augment_batch(self, x: Tensor) -> Tensor:
        """Change a training batch at random; what a data set can bear. By default nothing."""
        return x

    @cached_property
    def splits(self) -> Splits:
        """The data, read at first use.

        Raises:
            UserError: If the data is missing or damaged, or too small for one training batch.
        """
        splits = self.load()
        if self.batch_size > len(splits.train):
            raise UserError(
                f"data.batch_size={self.batch_size} is more than the {len(splits.train)} training"
                f" images of {type(self).__name__}: there would be no whole batch"
            )
        return splits

    def setup(self, stage: str) -> None:
        """Read the data now, so that what is wrong with it shows before training."""
        _ = self.splits

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training images in an order that depends on the seed and the epoch alone."""
        sampler = EpochSampler(len(self.splits.train), self.seed)
        return self._loader(self.splits.train, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation images, always in the same order, never augmented."""
        return self._loader(self.splits.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test images, always in the same order, never augmented. No other loader gives these."""
        return self._loader(self.splits.test)

    def calibration_dataloader(self) -> DataLoader[Batch]:
        """Training images in one fixed, seeded order, never augmented."""
        generator = seeded_generator("calibration", self.seed)
        order = torch.randperm(len(self.splits.train), generator=generator)
        return self._loader(self.splits.train, sampler=order.tolist())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment batches of the training loop, and of nothing else."""
        x, y = batch
        if self.augment and self.trainer is not None and self.trainer.training:
            x = self.augment_batch(x)
        return x, y

    def fingerprint(self) -> str:
        """The sha256, in hex, of all pixels and labels, of how they are split and normalized."""
        splits = self.splits
        parts = [splits.train.digest(), splits.val.digest(), splits.test.digest()]
        return hashlib.sha256("\n".join([*parts, str(self.normalization)]).encode()).hexdigest()

    def _loader(self, images: Images, **options: Any) -> DataLoader[Batch]:
        return DataLoader(
            ImageDataset(images, self.normalization),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=keep_batch,
            **options,
        )

    @staticmethod
    def _require(name: str, value: int, at_least: int, at_most: int | None = None) -> None:
        if value < at_least or (at_most is not None and value > at_most):
            limit = f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"
            raise UserError(f"data.{name}={value}: write a number of {limit}")
