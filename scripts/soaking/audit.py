"""What a run directory claims to hold whole, and does not."""

import csv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from bitladder.errors import UserError
from bitladder.runs import Results, RunDirectory, sha256
from bitladder.runs.documents import (
    HistogramsRecord,
    Manifest,
    PrecisionRecord,
    QuantizationRecord,
)
from bitladder.runs.sealed import damage

DOCUMENTS = {
    "manifest.json": Manifest,
    "quantization.json": QuantizationRecord,
    "histograms.json": HistogramsRecord,
    "precision.json": PrecisionRecord,
    "results.json": Results,
}


def audit(directory: RunDirectory) -> list[str]:
    """Look at every file under its final name, whatever became of its writer.

    Hidden files, logs and wandb's own claim nothing. A completed run claims all of its files.

    Returns:
        A line for each that is not what it claims to be.
    """
    found = [
        f"{path.relative_to(directory.path)}: {reason}"
        for path in sorted(directory.path.rglob("*"))
        if path.is_file() and path.suffix in CHECKS and not _claims_nothing(path, directory)
        for reason in _reasons(path)
    ]
    return found or [*_claims_of_manifest(directory), *_claims_of_results(directory)]


def _claims_nothing(path: Path, directory: RunDirectory) -> bool:
    """Whether it has no final name, or is wandb's own."""
    parts = path.relative_to(directory.path).parts
    return parts[0] == directory.wandb.name or any(part.startswith(".") for part in parts)


def _reasons(path: Path) -> Iterator[str]:
    try:
        reason = CHECKS[path.suffix](path)
    except Exception as error:  # whatever a reader says of a file that is cut
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    if reason is not None:
        yield reason


def _json(path: Path) -> None:
    DOCUMENTS[path.name].read(path)


def _archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        torn = archive.testzip()
    return None if torn is None else f"{torn} in it is torn"


def _table(path: Path) -> str | None:
    text = path.read_bytes().decode()
    rows = list(csv.reader(text.splitlines()))
    if not text.endswith("\r\n"):
        return "its last line is torn"
    return None if len(set(map(len, rows))) == 1 else "its rows differ in length"


def _page(path: Path) -> str | None:
    return None if path.read_text().rstrip().endswith("</html>") else "it is cut short"


def _mapping(path: Path) -> str | None:
    return None if isinstance(yaml.safe_load(path.read_text()), dict) else "it is no mapping"


CHECKS: dict[str, Callable[[Path], str | None]] = {
    ".json": _json,
    ".ckpt": damage,
    ".pt2": _archive,
    ".npz": _archive,
    ".csv": _table,
    ".html": _page,
    ".yaml": _mapping,
}


def _claims_of_manifest(directory: RunDirectory) -> Iterator[str]:
    """The configuration is written before the manifest, which has its hash."""
    if directory.manifest.exists():
        of_config = Manifest.read(directory.manifest).config_sha256
        if not directory.config.exists() or sha256(directory.config) != of_config:
            yield "config.yaml: not the file that manifest.json describes"


def _claims_of_results(directory: RunDirectory) -> Iterator[str]:
    """What a completed run says of its files."""
    try:
        results = Results.read(directory.results)
    except UserError:
        return
    if results.status != "completed":
        return
    for path in (directory.manifest, directory.metrics, directory.predictions):
        if not path.exists():
            yield f"{path.name}: missing in a completed run"
    for file in results.artifacts:
        path = directory.path / file.name
        if not path.exists():
            yield f"{file.name}: missing in a completed run"
        elif (path.stat().st_size, sha256(path)) != (file.size_bytes, file.sha256):
            yield f"{file.name}: not the file that results.json describes"
