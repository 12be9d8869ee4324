from pathlib import Path

import pytest

from bitladder.cli.checkpoint_io import SealedCheckpointIO
from bitladder.runs import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.checkpoints.mkdir(parents=True)
    return directory


def test_a_checkpoint_of_the_run_is_removed_whoever_wrote_it(run: RunDirectory) -> None:
    run.best_checkpoint.touch()
    SealedCheckpointIO(run).remove_checkpoint(run.best_checkpoint)
    assert not run.best_checkpoint.exists()


def test_a_checkpoint_that_this_process_wrote_elsewhere_is_removed(
    run: RunDirectory, tmp_path: Path
) -> None:
    io, path = SealedCheckpointIO(run), tmp_path / "elsewhere" / "best.ckpt"
    io.save_checkpoint({"epoch": 1}, str(path))
    assert path.exists()
    io.remove_checkpoint(str(path))
    assert not path.exists()


@pytest.mark.parametrize(
    "path", ["{}/victim", "{}/run/../victim", "local://{}/victim", "{}/run/link", "{}/run"]
)
def test_nothing_else_is_removed(run: RunDirectory, tmp_path: Path, path: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (run.path / "link").symlink_to(victim)
    SealedCheckpointIO(run).remove_checkpoint(path.format(tmp_path))
    assert victim.is_dir()
    assert run.checkpoints.is_dir()
