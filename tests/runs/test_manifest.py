import hashlib
import platform
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bitladder.runs import manifest, read_json, write_json


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def collect(project: Path) -> dict[str, Any]:
    return manifest.collect(
        command=["bitladder", "train", "seed=3"],
        seed=3,
        config="seed: 3\n",
        data_fingerprint="ab" * 32,
        precision="fp16",
        effective_precision={"autocast": "float16", "scaler": True},
        project=project,
    )


def test_it_says_what_the_run_is_made_from_in_plain_json_types(tmp_path: Path) -> None:
    collected = collect(tmp_path)
    write_json(tmp_path / "manifest.json", collected)
    assert read_json(tmp_path / "manifest.json") == collected
    assert collected["command"] == ["bitladder", "train", "seed=3"]
    assert collected["config_sha256"] == hashlib.sha256(b"seed: 3\n").hexdigest()
    assert collected["precision"] == {
        "requested": "fp16",
        "effective": {"autocast": "float16", "scaler": True},
    }
    assert collected["packages"]["torch"].startswith("2.")
    assert datetime.fromisoformat(collected["started"]).utcoffset() == timedelta(0)


def test_it_does_not_name_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    monkeypatch.setenv("HOSTNAME", "secret-host")
    assert "secret-host" not in str(collect(tmp_path))


def test_a_commit_and_a_change_after_it_are_seen(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert manifest.describe_git(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "new.py").touch()
    assert manifest.describe_git(tmp_path) == {"commit": commit, "dirty": True}


def test_a_checkout_without_a_commit_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert manifest.describe_git(tmp_path) == {"commit": None, "dirty": None}


def test_no_checkout_and_no_git_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifest.describe_git(tmp_path) == {"commit": None, "dirty": None}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert manifest.describe_git(tmp_path) == {"commit": None, "dirty": None}


def test_the_lock_is_named_by_its_hash(tmp_path: Path) -> None:
    assert manifest.hash_lock(tmp_path) is None
    (tmp_path / "requirements.lock").write_bytes(b"a==1\n")
    assert manifest.hash_lock(tmp_path) == hashlib.sha256(b"a==1\n").hexdigest()


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "PACKAGES", ("torch", "no-such-package-anywhere"))
    assert set(manifest.package_versions()) == {"torch"}
