"""Arrays of a run, read back as data."""

import zipfile
from pathlib import Path

import numpy as np

from bitladder.archives import archive_damage
from bitladder.errors import UserError
from bitladder.runs.directory import RunDirectory
from bitladder.runs.reading import readable


def read_arrays(directory: RunDirectory, path: Path, largest: int) -> dict[str, np.ndarray] | None:
    """Read an ``.npz`` file of a run; None where there is none.

    Args:
        directory: The run's; links that lead out of it are not followed.
        path: The file.
        largest: Bytes that it may have unpacked: a small file can claim to hold any size.

    Raises:
        UserError: If the file is not what a run writes. Nothing pickled is loaded.
    """
    try:
        if not readable(directory, path, largest):
            return None
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > largest:
            raise UserError(f"{path} unpacks to {size / 1e9:.1f} GB: no run writes so much")
        if damage := archive_damage(path):
            raise UserError(f"{path} is damaged: {damage}")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _array(path, name, arrays[name]) for name in arrays.files}
    except UserError:
        raise
    except Exception as error:  # whatever damaged bytes lead NumPy's reader to
        raise UserError(f"cannot read {path}: {error}") from error


def _array(path: Path, name: str, value: object) -> np.ndarray:
    """NumPy gives the bytes of a member that is no array."""
    if not isinstance(value, np.ndarray):
        raise UserError(f"cannot read {path}: {name} in it is no array")
    return value
