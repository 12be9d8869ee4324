"""The images on which the rungs differ, read back from ``samples.npz``."""

import zipfile
from dataclasses import dataclass

import numpy as np

from bitladder.archives import archive_damage
from bitladder.errors import UserError
from bitladder.runs.directory import RunDirectory
from bitladder.runs.reading import readable

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
    try:
        if not readable(directory, path, LARGEST_SAMPLES_BYTES):
            return None
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST_SAMPLES_BYTES:
            raise UserError(f"{path} unpacks to {size / 1e6:.0f} MB: no run writes so much")
        if damage := archive_damage(path):
            raise UserError(f"{path} is damaged: {damage}")
        with np.load(path, allow_pickle=False) as arrays:
            samples = Samples(arrays["index"], arrays["images"])
    except UserError:
        raise
    except Exception as error:  # whatever damaged bytes lead NumPy's reader to
        raise UserError(f"cannot read {path}: {error}") from error
    index, images = samples.index, samples.images
    if images.ndim != 4 or images.dtype != np.uint8 or index.shape != images.shape[:1]:
        raise UserError(f"{path}: images are {images.dtype}{images.shape}, not those of a run")
    if index.dtype.kind not in "iu":
        raise UserError(f"{path}: indices are {index.dtype}")
    return samples
