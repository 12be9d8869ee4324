import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from bitladder.errors import UserError
from bitladder.runs import RunDirectory


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_it_names_every_file_of_the_design() -> None:
    run = RunDirectory(Path("r"))
    names = {
        str(path.relative_to("r"))
        for path in (
            run.config,
            run.manifest,
            run.metrics,
            run.results,
            run.quantization,
            run.last_checkpoint,
            run.best_checkpoint,
            run.int8_artifact,
            run.float_artifact,
            run.report,
            run.log,
            run.tensorboard,
            run.wandb,
        )
    }
    assert names == {
        "config.yaml",
        "manifest.json",
        "metrics.csv",
        "results.json",
        "quantization.json",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "model_int8.pt2",
        "model_float.pt2",
        "report.html",
        "train.log",
        "tensorboard",
        "wandb",
    }


def test_a_created_directory_exists_and_its_name_sorts_by_time(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "new" / "runs", "digits")
    assert run.path.is_dir()
    name, day, time = run.path.name.split("-")
    assert (name, len(day), len(time)) == ("digits", 8, 6)


def test_runs_that_start_together_get_a_directory_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunDirectory.create(tmp_path, "digits"), range(16)))
    assert len({run.path for run in runs}) == 16
    assert all(run.path.is_dir() for run in runs)


def test_a_file_in_the_place_of_the_runs_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    file.write_text("")
    for runs in (file, file / "below"):
        with pytest.raises(
            UserError, match=r"cannot make a run directory in .*paths\.runs="
        ) as got:
            RunDirectory.create(runs, "digits")
        assert "\n" not in str(got.value)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(UserError, match="cannot make a run directory in /proc"):
        RunDirectory.create(Path("/proc"), "digits")


def test_a_nearly_full_disk_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1_000_000))
    with pytest.raises(UserError, match=r"nearly full \(1 MB free"):
        RunDirectory.create(tmp_path, "digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "a\nb", "a\0b"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a folder"):
        RunDirectory.create(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name too long"):
        RunDirectory.create(tmp_path, "n" * 300)
