"""What both rungs answered on the test split, read back from ``predictions.npz``."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitladder.archives import archive_damage
from bitladder.errors import UserError
from bitladder.runs.directory import RunDirectory
from bitladder.runs.reading import readable

LARGEST_PREDICTIONS_BYTES = 1024**3
"""Unpacked: a small file can claim to hold any size."""

LABELS = "labels"


@dataclass(frozen=True)
class Predictions:
    """Answers of a classifier on its test split.

    Attributes:
        labels: The right classes ``[samples]``, integers.
        logits: By rung, ``[samples, classes]``, floating.
    """

    labels: np.ndarray
    logits: dict[str, np.ndarray]

    def classes(self, rung: str) -> np.ndarray:
        """What a rung takes each sample for ``[samples]``; the first of equal logits."""
        return self.logits[rung].argmax(axis=1)


def read_predictions(directory: RunDirectory) -> Predictions | None:
    """Read the predictions of a run; None where there are none.

    Raises:
        UserError: If the file is not what a run writes. Nothing pickled is loaded.
    """
    path = directory.predictions
    try:
        if not readable(directory, path, LARGEST_PREDICTIONS_BYTES):
            return None
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST_PREDICTIONS_BYTES:
            raise UserError(f"{path} unpacks to {size / 1e9:.1f} GB: no run writes so much")
        if damage := archive_damage(path):
            raise UserError(f"{path} is damaged: {damage}")
        with np.load(path, allow_pickle=False) as arrays:
            logits = {name: arrays[name] for name in arrays.files if name != LABELS}
            labels = arrays[LABELS]
    except UserError:
        raise
    except Exception as error:  # whatever damaged bytes lead NumPy's reader to
        raise UserError(f"cannot read {path}: {error}") from error
    _check(path, labels, logits)
    return Predictions(labels, logits)


def _check(path: Path, labels: np.ndarray, logits: dict[str, np.ndarray]) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: labels are {labels.dtype}{labels.shape}, not one class a sample")
    for name, values in logits.items():
        if values.ndim != 2 or len(values) != len(labels) or values.dtype.kind != "f":
            raise UserError(
                f"{path}: {name} is {values.dtype}{values.shape}, not the logits of"
                f" {len(labels)} samples"
            )
        if not values.shape[1]:
            raise UserError(f"{path}: {name} has no classes")
