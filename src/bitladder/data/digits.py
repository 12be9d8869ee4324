"""Handwritten digits that come with scikit-learn."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from bitladder.data.augment import random_shift
from bitladder.data.base import ImageDataModule
from bitladder.data.images import Images, Normalization
from bitladder.data.splits import Splits, split


class Digits(ImageDataModule):
    """1,797 handwritten digits of 8x8 pixels with 17 levels of grey (UCI "optdigits").

    Split by seed, stratified: 1,257 to train, 180 to validate, 360 to test.

    Args:
        batch_size: Images a batch.
        seed: Fixes splits and orders.
        num_workers: Loader processes.
        augment: Whether training images are shifted by up to one pixel.
    """

    num_classes = 10
    input_shape = (1, 8, 8)
    class_names = tuple("0123456789")
    # Mean and deviation to one digit: constants, the same for every seed's split.
    normalization = Normalization(peak=16.0, mean=0.3, std=0.4)

    VAL_SIZE = 180
    TEST_SIZE = 360

    def __init__(
        self, batch_size: int = 64, seed: int = 1, num_workers: int = 0, augment: bool = True
    ) -> None:
        super().__init__(batch_size, seed, num_workers, augment)

    def load(self) -> Splits:
        """Read scikit-learn's copy."""
        data, target = load_digits(return_X_y=True)
        pixels = torch.from_numpy(data).to(torch.uint8).view(-1, *self.input_shape)
        labels = torch.from_numpy(target).long()
        return split(Images(pixels, labels), self.VAL_SIZE, self.TEST_SIZE, self.seed)

    def augment_batch(self, x: Tensor) -> Tensor:
        """Shift each image by up to one pixel."""
        return random_shift(x, pixels=1, fill=self.normalization.black)
