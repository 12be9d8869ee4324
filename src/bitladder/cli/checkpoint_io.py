"""How a run's checkpoints get to the disk."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from bitladder.cli.checkpoint_values import without_objects
from bitladder.errors import RunError
from bitladder.runs import RunDirectory
from bitladder.runs.sealed import write_sealed


class SealedCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, with a checksum inside; keeps the one before.

    What is removed is what this process wrote, or lies in the run directory: the rest of what a
    checkpoint calls its own to remove is somebody's word.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self.directory = directory
        self._written: set[str] = set()
        self._told = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            RunError: If it cannot be written; the one before is as it was then.
            UserError: If it holds more than tensors and plain containers.
        """
        self._written.add(str(path))
        checkpoint, left_out = without_objects(checkpoint)
        if left_out and not self._told:
            self._told = True
            print(
                f"checkpoints leave out the hyperparameters {', '.join(left_out)}: they are no"
                " plain values; config.yaml has what they were made of"
            )
        if "://" in str(path):  # a bucket, which the user has asked for: Lightning knows how
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from error
        is_last = path.absolute() == self.directory.last_checkpoint.absolute()
        previous = self.directory.previous_checkpoint if is_last else None
        write_sealed(path, content.getvalue(), previous=previous)

    def remove_checkpoint(self, path: _PATH) -> None:
        """Remove a checkpoint of this run; leave anything else where it is."""
        folders = {self.directory.path.resolve()}
        if self.directory.trusts_links:
            folders.add(self.directory.checkpoints.resolve())
        is_ours = "://" not in str(path) and bool(folders & {*Path(path).resolve().parents})
        if is_ours or str(path) in self._written:
            super().remove_checkpoint(path)
