"""The program that kills runs finds nothing, and its faults happen."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "scripts" / "soaking"
PRIVATE = ["unshare", "--map-root-user", "--mount"]
"""What disks are mounted in."""


def soak(
    folder: Path, *arguments: str, private: bool = False
) -> dict[str, list[dict[str, object]]]:
    path = f"{PROGRAM}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [
            *(PRIVATE if private else []),
            *(sys.executable, str(PROGRAM / "soak.py"), "--seed", "3", "--parallel", "1"),
            *("--out", str(folder / "soak.json"), *arguments),
        ],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "soak.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_runs_that_are_killed_end_as_those_that_are_not(tmp_path: Path) -> None:
    outcomes = soak(tmp_path, "--kills", "3", "--only", "fp16-none")["outcomes"]
    assert sum(len(outcome["phases"]) for outcome in outcomes) >= 3  # type: ignore[arg-type]
    assert [outcome["problem"] for outcome in outcomes] == [None] * len(outcomes)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*PRIVATE, "true"], stderr=-1).returncode != 0,
    reason="nothing can be mounted here",
)
@pytest.mark.parametrize("moment", ["while training", "after training", "while compiling"])
def test_a_full_disk_is_one_line_and_the_run_goes_on(tmp_path: Path, moment: str) -> None:
    soak(tmp_path, "--only", f"full disk {moment}", private=True)
