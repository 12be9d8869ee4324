"""ZIP archives, which checkpoints and packages are, looked at before PyTorch loads them."""

import zipfile
from pathlib import Path


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP archive, or was one before it was damaged."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return True


def archive_damage(path: Path) -> str | None:
    """What is wrong with a ZIP archive, in a few words; None if every entry is as it was written.

    An archive carries a CRC-32 of each entry. PyTorch does not look at it: it loads a flipped bit
    of a weight as another weight, and executes a flipped bit of a compiled model. The check reads
    the whole file, some 500 MB a second.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.testzip()
    except zipfile.BadZipFile as error:
        return f"{error}".lower()
    except Exception as error:  # whatever damaged bytes lead the unpackers to
        return f"it cannot be unpacked ({error})"
    return entry and f"the checksum of {entry} does not match"
