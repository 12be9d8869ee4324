"""What a run directory claims to hold whole: each kind of damage is found."""

import os
from pathlib import Path

import pytest
from audit import audit

from bitladder.cli import training
from bitladder.cli.main import main
from bitladder.runs import RunDirectory

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setattr(training, "measure", lambda *_: {})
    small = ("data=synthetic", "model=mlp", "trainer.max_epochs=1", "logger=csv")
    more = ("quantization=none", "callbacks.progress=null", f"paths.runs={tmp_path}")
    assert main(["train", *small, *more]) == 0
    (path,) = tmp_path.iterdir()
    return RunDirectory(path)


def test_a_whole_run_lacks_nothing_but_what_was_not_measured(run: RunDirectory) -> None:
    assert audit(run) == ["predictions.npz: missing in a completed run"]


@pytest.mark.parametrize(
    "name",
    [
        *("results.json", "manifest.json", "config.yaml", "metrics.csv", "report.html"),
        *("checkpoints/last.ckpt", "checkpoints/best.ckpt"),
    ],
)
def test_a_file_that_is_cut_is_found(run: RunDirectory, name: str) -> None:
    path = run.path / name
    os.truncate(path, path.stat().st_size - 9)
    assert name in [line.partition(":")[0] for line in audit(run)]


def test_a_bit_of_a_checkpoint_is_found(run: RunDirectory) -> None:
    content = bytearray(run.last_checkpoint.read_bytes())
    content[1000] ^= 1
    run.last_checkpoint.write_bytes(content)
    assert audit(run) == ["checkpoints/last.ckpt: its content does not match its checksum"]
