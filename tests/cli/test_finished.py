from pathlib import Path

import pytest

from bitladder.cli.finished import FinishedRun, inside
from bitladder.errors import UserError
from bitladder.runs import RunDirectory


def opened(tmp_path: Path, config: str) -> FinishedRun:
    (tmp_path / "config.yaml").write_text(config)
    return FinishedRun.open(str(tmp_path), allow_unfinished=True)


def test_a_configuration_is_read_as_plain_containers(tmp_path: Path) -> None:
    run = opened(tmp_path, "seed: 1\nlr: 1e-3\nname: null\nhidden: [1, 2]\nat: {2: 4}\n")
    hidden, at = [1, 2], {2: 4}  # epochs are keys of accumulation schedules
    assert run.values == {"seed": 1, "lr": 1e-3, "name": None, "hidden": hidden, "at": at}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("name: ${oc.env:HOME}", r"name=\$\{oc.env:HOME\} is not resolved"),
        ("data: {root: ['${name}']}", "is not resolved"),
        ("name: ???", "is not resolved"),
        ("name: ${", "config.yaml is not what a run writes"),
        ("a: &a [1, 2]\nb: [*a, *a]", "it has aliases"),
        ("a: &a [*a]", "it has aliases"),
        ("1.5: a", "the key 1.5 of the configuration is no text"),
        ("data: {1.5: a}", "the key 1.5 of data is no text"),
        ("- a", "it is no mapping"),
        ("a: [", "is not YAML"),
        ("a: !!python/object/apply:os.system [true]", "is not YAML"),
        ("a: !!python/object/apply:pathlib.PosixPath [a]", "a is a PosixPath"),
        ("a: " + "[" * 1200, "config.yaml is not what a run writes"),
        ('a: !!timestamp "b"', "config.yaml is not what a run writes"),
        ('a: !!bool "b"', "config.yaml is not what a run writes"),
        ("a: \x00", "config.yaml is not what a run writes"),
    ],
)
def test_a_configuration_that_no_run_wrote_is_refused(
    tmp_path: Path, config: str, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        opened(tmp_path, config)


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match=r"config\.yaml is not what a run writes"):
        FinishedRun.open(str(tmp_path), allow_unfinished=True)


def test_results_nested_too_deep_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"results\.json is not JSON"):
        opened(tmp_path, "seed: 1")


def test_only_what_stays_in_the_run_is_inside(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    directory = RunDirectory(folder)
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to("..")
    (folder / "here").symlink_to(".")
    for good in ("a", "sub/../a", "here/a"):
        assert inside(directory, folder / good) == folder / good
    for bad in ("..", "../run2", "/etc/passwd", "up/a", "a\0b"):
        with pytest.raises(UserError, match="leads out of the run directory"):
            inside(directory, folder / bad)


def test_a_run_may_itself_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    (tmp_path / "latest").symlink_to("run")
    run = FinishedRun.open(str(tmp_path / "latest"), allow_unfinished=True)
    assert run.values == {"seed": 1}
