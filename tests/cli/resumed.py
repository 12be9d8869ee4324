"""What ``bitladder resume`` says, and runs whose record somebody changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from bitladder.cli.main import main
from bitladder.runs import sha256


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    capsys.readouterr()
    assert main(["resume", *arguments]) == status
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    return error


def changed(run: Path, old: str, new: str, *, sealed: bool = True) -> None:
    """Change the configuration, and the manifest so that it fits if ``sealed``."""
    path = run / "config.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    if sealed:
        recorded(run, config_sha256=sha256(path))


def recorded(run: Path, **values: Any) -> None:
    """Change what the manifest says."""
    path = run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
