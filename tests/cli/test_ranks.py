"""``bitladder train`` with two processes: one run directory, one table, one error line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitladder.cli.main import main
from bitladder.cli.ranks import HANDED_OVER, shared_directory
from bitladder.errors import UserError

# Lightning starts the other process by executing this file again.
PROGRAM = """
import sys
from bitladder.cli.main import main
sys.exit(main())
"""


def train(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    settings = [
        "data=synthetic",
        "model=mlp",
        "model.hidden=[16]",
        "trainer.max_epochs=2",
        "callbacks.progress=null",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "logger=csv",
        f"paths.runs={tmp_path / 'runs'}",
    ]
    return subprocess.run(
        [sys.executable, "program.py", "train", *settings, *arguments],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def only_run(tmp_path: Path) -> Path:
    (directory,) = (tmp_path / "runs").iterdir()
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "qat"])
def test_two_processes_leave_one_run(tmp_path: Path, quantization: str) -> None:
    done = train(tmp_path, f"quantization={quantization}")
    assert done.returncode == 0, done.stderr
    directory = only_run(tmp_path)
    assert done.stdout.count("run directory:") == 1
    assert done.stdout.count("latency, batch 32") == 1
    assert done.stdout.splitlines()[-1] == str(directory)
    results = json.loads((directory / "results.json").read_text())
    assert results["status"] == "completed"
    assert ("int8" in results["rungs"]) == (quantization == "qat")
    assert (directory / "train.rank1.log").exists()


@pytest.mark.slow
def test_what_fails_on_rank_0_is_one_line_and_ends_both(tmp_path: Path) -> None:
    done = train(tmp_path, "quantization=ptq", "quantization.min_sqnr_db=500")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "is below 500.0 dB" in line
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    assert results["status"] == "failed"


def test_a_rank_that_rank_0_did_not_start_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitladder.cli.ranks.rank", lambda: 1)
    with (
        pytest.raises(UserError, match=r"start one process, which starts trainer\.devices"),
        shared_directory(tmp_path, "name"),
    ):
        pass
    monkeypatch.setenv(HANDED_OVER, str(tmp_path / "of-rank-0"))
    with shared_directory(tmp_path, "name") as directory:
        assert directory.path == tmp_path / "of-rank-0"


def test_a_second_run_in_one_process_gets_a_directory_of_its_own(tmp_path: Path) -> None:
    with shared_directory(tmp_path, "name") as first:
        assert os.environ[HANDED_OVER] == str(first.path)
    assert HANDED_OVER not in os.environ
    with shared_directory(tmp_path, "name") as second:
        assert first.path != second.path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-m", "trainer.devices=2", "seed=1,2"], "write trainer.devices=1"),
        (["trainer.strategy=ddp_spawn"], "write trainer.strategy=ddp"),
    ],
)
def test_processes_that_cannot_be_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["train", "data=synthetic", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
