"""``train -m`` by another sweeper of Hydra's, which runs in this process."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitladder.cli.main import main
from bitladder.cli.schema import Config
from bitladder.errors import RunError

BASIC = "hydra/sweeper=basic"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Hydra sets up the process's logging for a sweep."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_every_combination_is_trained_in_the_sweeps_folder(
    trained: list[Config], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "-m", BASIC, "model=mlp,vit", "seed=1,2", "paths.sweeps=many"]) == 0
    assert [(config.choices["model"], config.seed) for config in trained] == [
        ("mlp", 1),
        ("mlp", 2),
        ("vit", 1),
        ("vit", 2),
    ]
    folder = capsys.readouterr().out.splitlines()[-1]
    assert folder.startswith("many/")
    assert {config.paths["runs"] for config in trained} == {folder}
    files = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [f"{folder}/multirun.yaml"]


def test_a_failed_run_leaves_the_others_alone(
    trained: list[Config],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def train(config: Config) -> int:
        trained.append(config)
        if config.seed == 1:
            raise RunError("NaN at step 3")
        return 0

    monkeypatch.setattr(sys.modules["bitladder.cli.training"], "train", train)
    assert main(["train", "-m", BASIC, "seed=1,2"]) == 1
    assert [config.seed for config in trained] == [1, 2]
    assert "bitladder: the run failed: NaN at step 3\n" in capsys.readouterr().err


def test_the_folder_may_be_named(trained: list[Config], tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    assert main(["train", "-m", BASIC, "seed=1,2", f'hydra.sweep.dir="{folder}"']) == 0
    assert trained[0].paths["runs"] == str(folder)


def test_a_folder_that_cannot_be_made(
    trained: list[Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweeps").touch()
    assert main(["train", "-m", BASIC, "seed=1,2"]) == 2
    assert "write paths.sweeps=FOLDER" in capsys.readouterr().err
    assert trained == []
