"""Made-up images: small, fast, learnable."""

import math
from collections.abc import Sequence

import torch

from bitladder.data.base import ImageDataModule
from bitladder.data.images import Images, Normalization
from bitladder.data.sampler import seeded_generator
from bitladder.data.splits import Splits, split
from bitladder.errors import UserError

MOST_VALUES = 2**30
"""Pixels of all channels and images together: made in memory, as a few GB of floats."""


class Synthetic(ImageDataModule):
    """A random pattern for each class, and noise over it: for tests.

    The seed fixes patterns, noise and splits. A fifth of the images validates, a fifth tests.

    Args:
        batch_size: Images a batch.
        seed: Fixes the data, the splits and the orders.
        num_workers: Loader processes.
        num_samples: Images of all splits together.
        input_shape: Channels, height and width of an image.
        num_classes: Number of classes, all of the same size to within one image.

    Raises:
        UserError: If an argument is out of range.
    """

    normalization = Normalization(peak=255.0, mean=0.5, std=0.25)

    def __init__(
        self,
        batch_size: int = 16,
        seed: int = 1,
        num_workers: int = 0,
        num_samples: int = 160,
        input_shape: Sequence[int] = (1, 8, 8),
        num_classes: int = 4,
    ) -> None:
        super().__init__(batch_size, seed, num_workers)
        self._require("num_classes", num_classes, at_least=2)
        self._require("num_samples", num_samples, at_least=5 * num_classes)
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise UserError(
                f"data.input_shape={tuple(input_shape)}: write [channels, height, width], each at"
                " least 1"
            )
        values = num_samples * math.prod(input_shape)
        if values > MOST_VALUES:
            raise UserError(
                f"data.num_samples={num_samples} of data.input_shape={tuple(input_shape)} are too"
                f" many: write at most {MOST_VALUES} pixels in all"
            )
        channels, height, width = input_shape
        self.num_samples = num_samples
        self.input_shape = (channels, height, width)
        self.num_classes = num_classes
        self.class_names = tuple(f"class {index}" for index in range(num_classes))

    def load(self) -> Splits:
        """Make the images."""
        generator = seeded_generator("synthetic", self.seed)
        patterns = torch.rand((self.num_classes, *self.input_shape), generator=generator)
        labels = torch.arange(self.num_samples) % self.num_classes
        noise = torch.randn((self.num_samples, *self.input_shape), generator=generator)
        shades = (patterns[labels] + 0.2 * noise).clamp(0.0, 1.0)
        pixels = (shades * self.normalization.peak).round().to(torch.uint8)
        held_out = self.num_samples // 5
        return split(Images(pixels, labels), held_out, held_out, self.seed)
