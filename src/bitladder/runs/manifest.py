"""What a run is made from: enough to run it again and to explain a difference."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bitladder.runs import conditions, hardware

SCHEMA_VERSION = 1

# The packages that can change a run's numbers, or the form of what it writes.
PACKAGES = (
    "bitladder",
    "torch",
    "torchao",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scikit-learn",
    "wandb",
)

GIT_TIMEOUT_SECONDS = 10


def collect(
    *,
    command: Sequence[str],
    seed: int,
    config: str,
    data_fingerprint: str,
    precision: str,
    effective_precision: Mapping[str, str | float | bool],
    project: Path,
    not_deterministic: Sequence[str] = (),
) -> dict[str, object]:
    """Gather the manifest, which is written before training. It never names the host or the user.

    Args:
        command: The command line, program first.
        seed: The seed of everything random.
        config: The text of config.yaml.
        data_fingerprint: The datamodule's sha256 over the data used, with the split.
        precision: What the user asked for (`fp16`).
        effective_precision: What really runs, from the precision plugin.
        project: The folder whose git commit and requirements.lock the run belongs to.
        not_deterministic: Why a second run may differ in the last bits, a line a reason.

    Returns:
        Plain JSON types, for `write_json(run.manifest, ...)`.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "seed": seed,
        "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
        "data_fingerprint": data_fingerprint,
        "precision": {"requested": precision, "effective": dict(effective_precision)},
        "git": describe_git(project),
        "lock_sha256": hash_lock(project),
        "packages": package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": hardware.describe(),
        "conditions": conditions.describe(),
        "not_deterministic": list(not_deterministic),
    }


def package_versions() -> dict[str, str]:
    """Return the installed version of each of `PACKAGES` that is installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hash_lock(project: Path) -> str | None:
    """Return the sha256 of the project's requirements.lock, or None where there is none."""
    try:
        return hashlib.sha256((project / "requirements.lock").read_bytes()).hexdigest()
    except OSError:
        return None


def describe_git(project: Path) -> dict[str, str | bool | None]:
    """Return the commit and whether files differ from it.

    Both are None outside a git checkout, before the first commit, and where git is missing or
    refuses: a run does not fail for want of a name for its code.
    """
    commit = _git(project, "rev-parse", "--verify", "HEAD")
    changes = None if commit is None else _git(project, "status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else changes != ""}


def _git(project: Path, *arguments: str) -> str | None:
    try:
        finished = subprocess.run(
            ["git", "-C", str(project), *arguments],
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="replace",
            timeout=GIT_TIMEOUT_SECONDS,
            # Reading must not take the lock that a commit made meanwhile needs.
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()
