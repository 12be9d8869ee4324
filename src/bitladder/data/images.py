"""Images and labels held in memory, indexed a whole batch at a time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

T = TypeVar("T")
Batch = tuple[Tensor, Tensor]
"""Images, fp32 ``[batch, channels, height, width]``, and labels, int64 ``[batch]``."""


@dataclass(frozen=True)
class Images:
    """Raw images with their labels: one split of a data set.

    Args:
        pixels: uint8, ``[images, channels, height, width]``.
        labels: int64, ``[images]``.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, indices: Tensor) -> "Images":
        """The images at these indices, in their order."""
        return Images(self.pixels[indices], self.labels[indices])

    def digest(self) -> str:
        """The sha256, in hex, of shapes, pixels and labels."""
        digest = hashlib.sha256()
        for tensor in (self.pixels, self.labels):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Normalization:
    """From raw pixels to what a model sees: ``(pixel / peak - mean) / std``.

    Args:
        peak: The raw value of a white pixel.
        mean: Subtracted once pixels lie in 0..1.
        std: Divided by afterwards.
    """

    peak: float
    mean: float
    std: float

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalized pixels, fp32."""
        return (pixels.float() / self.peak - self.mean) / self.std

    @property
    def black(self) -> float:
        """What a raw zero becomes."""
        return -self.mean / self.std


class ImageDataset(Dataset[Batch]):
    """Normalized images; a loader asks for a whole batch of indices at once.

    That costs one indexing operation a batch instead of one a sample, so that an epoch over 60,000
    images spends next to nothing here.
    """

    def __init__(self, images: Images, normalization: Normalization) -> None:
        self.images = images
        self.normalization = normalization

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        """The image ``[channels, height, width]`` and label ``[]`` at an index."""
        return self.normalization(self.images.pixels[index]), self.images.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch at these indices."""
        batch = self.images.pick(torch.tensor(indices))
        return self.normalization(batch.pixels), batch.labels


def keep_batch(batch: T) -> T:
    """The ``collate_fn`` for :class:`ImageDataset`: its batches are whole already."""
    return batch
