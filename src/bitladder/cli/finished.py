"""A run that is over, read from its directory: as data, whoever wrote it, and never beyond it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from omegaconf import OmegaConf

from bitladder.cli.compose import one_line_errors
from bitladder.errors import UserError
from bitladder.runs import Results, RunDirectory, sha256
from bitladder.runs.documents import Manifest, QuantizationRecord

LARGEST_BYTES = {".yaml": 4 * 1024**2, ".json": 256 * 1024**2}
"""What is read whole: a configuration has a few kilobytes, the ranges of a large model some MB."""


@dataclass(frozen=True)
class FinishedRun:
    """What a run directory holds. Nothing in it is changed or executed."""

    directory: RunDirectory
    values: dict[str, Any]
    """Its configuration, not checked yet."""
    results: Results | None
    """None of a run that did not come to its end."""
    manifest: Manifest | None
    """None where it is missing."""

    @classmethod
    def open(cls, path: str, *, allow_unfinished: bool = False, trust_links: bool = False) -> Self:
        """Read a run directory.

        Args:
            path: The directory, as the user wrote it.
            allow_unfinished: Whether a run may do that failed, or never came to its end.
            trust_links: Whether links in it may lead out of it.

        Raises:
            UserError: If it is no run directory, or damaged, or of a run that is not completed.
        """
        directory = RunDirectory(Path(path), trust_links)
        if not directory.path.is_dir():
            what = "is no folder" if directory.path.exists() else "there is no such folder"
            raise UserError(f"run={path}: {what}: write a directory that bitladder train made")
        config = inside(directory, directory.config)
        if not config.is_file():
            raise UserError(f"run={path} is no run directory: there is no config.yaml in it")
        results = None
        status = "never came to its end: there is no results.json in it"
        if inside(directory, directory.results).is_file():
            results = Results.read(directory.results)
            status = f"failed: {results.reason}"
        if results is None or results.status != "completed":
            if not allow_unfinished:
                raise UserError(
                    f"run={path} {status}; write allow_unfinished=true to take its checkpoint"
                    " as it is"
                )
            results = None
        origin = inside(directory, directory.manifest)
        manifest = Manifest.read(origin) if origin.is_file() else None
        return cls(directory, _read_config(config), results, manifest)

    def checkpoint(self, name: str | None, *otherwise: Path) -> Path:
        """One of the run's checkpoints.

        Args:
            name: Which one, below ``checkpoints/``.
            otherwise: Where to look if no name is given; the first that exists counts.

        Raises:
            UserError: If there is none, or the name leads elsewhere.
        """
        folder = self.directory.checkpoints
        if name is not None and Path(name).name != name:
            raise UserError(f"checkpoint={name}: write the name of a file in {folder}")
        candidates = otherwise if name is None else (folder / name,)
        for path in candidates:
            if inside(self.directory, path).is_file():
                return path
        missing = " and no ".join(path.name for path in candidates)
        there = ", ".join(sorted(path.name for path in folder.glob("*.ckpt"))) or "no checkpoint"
        raise UserError(f"{folder} has no {missing}: there is {there}")

    @property
    def data_fingerprint(self) -> str | None:
        """The data that the run was made with, where it has a manifest."""
        return self.manifest.data_fingerprint if self.manifest else None

    @property
    def edited(self) -> str | None:
        """A line that says so where the configuration is not the one that the run wrote."""
        if self.manifest is None or sha256(self.directory.config) == self.manifest.config_sha256:
            return None
        return f"{self.directory.config.name} is not what the run wrote: it was edited since"

    @property
    def artifact_hashes(self) -> dict[str, str]:
        """The sha256 of each model's file, by name, as the run recorded it.

        Raises:
            UserError: If ``quantization.json`` is there and cannot be read.
        """
        hashes = {}
        path = inside(self.directory, self.directory.quantization)
        if path.is_file():
            hashes |= {x.name: x.sha256 for x in QuantizationRecord.read(path).artifacts}
        if self.results is not None:
            hashes |= {x.name: x.sha256 for x in self.results.artifacts}
        return hashes


def inside(directory: RunDirectory, path: Path) -> Path:
    """The path itself, if it stays in the run directory with every ``..`` and link followed.

    Where the directory's links are trusted, only ``..`` is followed.

    Raises:
        UserError: If it leads out of it, is larger than any run writes, or neither a file nor a
            folder: reading a pipe waits.
    """
    try:
        follow = _without_dots if directory.trusts_links else Path.resolve
        leads_out = not follow(path).is_relative_to(follow(directory.path))
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name with a zero byte
        leads_out = True
    if leads_out:
        linked = any(x.is_symlink() for x in (path, *path.parents))
        raise UserError(
            f"{path} leads out of the run directory: only what is in it is read"
            f"{'; write trust_links=true if its link is yours' if linked else ''}"
        )
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is neither a file nor a folder: no run makes that")
    largest = LARGEST_BYTES.get(path.suffix)
    if largest is not None and path.is_file() and (size := path.stat().st_size) > largest:
        raise UserError(
            f"{path} has {size / 1e6:.0f} MB: no run writes more than {largest / 1e6:.0f}"
        )
    return path


def _without_dots(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _read_config(path: Path) -> dict[str, Any]:
    """A resolved configuration as plain containers."""
    try:
        text = path.read_text(encoding="utf-8")
        with one_line_errors():
            # A few lines of references to references can stand for gigabytes.
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
                raise UserError("it has aliases, which no run writes")
            values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        if not isinstance(values, dict):
            raise UserError("it is no mapping")
        _check_plain(values, "")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # OmegaConf's, PyYAML's, and what a tag's constructor comes to
        raise UserError(f"{path} is not what a run writes: {error}") from error
    return {str(key): value for key, value in values.items()}


def _check_plain(value: Any, where: str) -> None:
    """Refuse what would be looked up elsewhere, such as ``${oc.env:HOME}``, and odd types."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise UserError(f"the key {key} of {where or 'the configuration'} is no text")
            _check_plain(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif isinstance(value, str):
        if "${" in value or value == "???":
            raise UserError(f"{where}={value} is not resolved")
    elif not isinstance(value, bool | int | float | None):
        raise UserError(f"{where} is a {type(value).__name__}")
