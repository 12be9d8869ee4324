from pathlib import Path

from bitladder.runs.finding import find_runs, is_run


def make(path: Path, name: str = "config.yaml") -> Path:
    path.mkdir(parents=True)
    (path / name).touch()
    return path


def test_any_file_of_a_run_makes_a_folder_one(tmp_path: Path) -> None:
    for name in ("config.yaml", "manifest.json", "metrics.csv", "results.json", "run.lock"):
        assert is_run(make(tmp_path / name / "run", name))
    assert not is_run(make(tmp_path / "photos", "holiday.jpg"))
    assert not is_run(tmp_path / "not there")


def test_a_run_that_has_just_been_made_is_one_and_another_empty_folder_is_not(
    tmp_path: Path,
) -> None:
    for name in ("digits-fp32-qat-s1-20261122-204500", "digits-20261122-204500-2"):
        (tmp_path / name).mkdir()
        assert is_run(tmp_path / name)
    (tmp_path / "jobs").mkdir()
    assert not is_run(tmp_path / "jobs")


def test_runs_are_found_in_folders_of_folders_but_never_in_a_run_or_behind_a_link(
    tmp_path: Path,
) -> None:
    here = tmp_path / "here"
    found = [make(here / "a"), make(here / "sweeps" / "ladder" / "b"), make(here / "z")]
    make(here / "a" / "wandb" / "inner")
    make(here / "1" / "2" / "3" / "too deep")
    make(tmp_path / "elsewhere" / "c")
    (here / "link").symlink_to(tmp_path / "elsewhere")
    assert list(find_runs(here)) == found
