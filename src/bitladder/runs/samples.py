"""The images on which the rungs differ, read back from ``samples.npz``."""

from dataclasses import dataclass

import numpy as np

from bitladder.errors import UserError
from bitladder.runs.arrays import read_arrays
from bitladder.runs.directory import RunDirectory

LARGEST_SAMPLES_BYTES = 64 * 1024**2
"""Unpacked: a small file can claim to hold any size."""


@dataclass(frozen=True)
class Samples:
    """Some images of the test split.

    Attributes:
        index: Which of the split's samples they are ``[images]``, integers.
        images: ``[images, channels, height, width]``, uint8, each from black to white.
    """

    index: np.ndarray
    images: np.ndarray


def read_samples(directory: RunDirectory) -> Samples | None:
    """Read the images of a run; None where there are none.

    Raises:
        UserError: If the file is not what a run writes. Nothing pickled is loaded.
    """
    path = directory.samples
    arrays = read_arrays(directory, path, LARGEST_SAMPLES_BYTES)
    if arrays is None:
        return None
    if not {"index", "images"} <= arrays.keys():
        raise UserError(f"cannot read {path}: it has no index or no images")
    samples = Samples(arrays["index"], arrays["images"])
    index, images = samples.index, samples.images
    if images.ndim != 4 or images.dtype != np.uint8 or index.shape != images.shape[:1]:
        raise UserError(f"{path}: images are {images.dtype}{images.shape}, not those of a run")
    if index.dtype.kind not in "iu":
        raise UserError(f"{path}: indices are {index.dtype}")
    return samples
