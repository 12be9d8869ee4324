"""What both rungs answered on the test split, read back from ``predictions.npz``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitladder.errors import UserError
from bitladder.runs.arrays import read_arrays
from bitladder.runs.directory import RunDirectory

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
    arrays = read_arrays(directory, path, LARGEST_PREDICTIONS_BYTES)
    if arrays is None:
        return None
    if LABELS not in arrays:
        raise UserError(f"cannot read {path}: it has no {LABELS}")
    labels = arrays.pop(LABELS)
    logits = arrays
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
