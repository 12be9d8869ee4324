"""``train -m`` by bitladder's own sweeper: what is asked, refused, gone on with."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bitladder.cli import sweeping
from bitladder.cli.main import main
from bitladder.runs.sweep_directory import JobRecord, SweepDirectory

SMALL = ["data=synthetic", "model=mlp", "quantization=none", "logger=csv"]
JOBS = Path(__file__).parents[1] / "sweeps"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _quick_jobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that train nothing, but where a test is about training."""
    if "slow" not in request.keywords:
        monkeypatch.syspath_prepend(JOBS)
        monkeypatch.setattr(sweeping, "JOB", "sweep_jobs:run")


def sweep(*overrides: str) -> int:
    return main(["train", "-m", *SMALL, *overrides])


def only_folder() -> SweepDirectory:
    (folder,) = Path("sweeps").iterdir()
    return SweepDirectory(folder)


def started(folder: Path) -> int:
    return len((folder / "starts").read_text().split())


def test_every_combination_is_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("precision=fp32,bf16", "seed=range(1,3)") == 0
    directory = only_folder()
    assert [record.name for record in directory.records()] == [
        "precision=fp32 seed=1",
        "precision=fp32 seed=2",
        "precision=bf16 seed=1",
        "precision=bf16 seed=2",
    ]
    assert {record.status for record in directory.records()} == {"completed"}
    assert capsys.readouterr().out.splitlines()[-1] == str(directory.path)


def test_the_same_command_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("seed=1,2") == 0
    assert sweep("seed=1,2") == 0
    assert started(only_folder().path) == 2
    assert sweep("seed=2,1") == 0  # the same jobs
    assert started(only_folder().path) == 2
    assert sweep("seed=1,2", "optimizer.lr=0.5") == 0
    assert len(list(Path("sweeps").iterdir())) == 2


def test_the_rest_of_hydras_syntax(capsys: pytest.CaptureFixture[str]) -> None:
    params = "hydra.sweeper.params.data.batch_size='16,32'"
    assert sweep("precision=glob(bf16*,exclude=*true)", "model.hidden=[8],[8,8]", params) == 0
    assert [record.name for record in only_folder().records()] == [
        f"data.batch_size={size} precision=bf16 model.hidden={hidden}"
        for size in (16, 32)
        for hidden in ("[8]", "[8,8]")
    ]


def test_a_page_is_left_and_one_that_fails_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("seed=1,2") == 0
    directory = only_folder()
    page = directory.report.read_text()
    assert all(str(record.run) in page for record in directory.records())

    def fail(*_: object) -> None:
        raise ValueError("a fault of\nours")

    monkeypatch.setattr("bitladder.report.write.write_sweep_report", fail)
    assert sweep("seed=1,2") == 0
    assert "no report.html: ValueError: a fault of ours\n" in capsys.readouterr().out


def test_an_interrupted_sweep_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeping.Runner, "run", interrupted)
    assert sweep("seed=1,2", "sweep.name=s") == 130
    assert capsys.readouterr().out.splitlines()[-1] == "sweeps/s: the same command goes on"


def test_two_ways_to_write_one_run_are_one_job() -> None:
    assert sweep("optimizer.lr=0.1,1e-1,0.2") == 0
    assert len(only_folder().records()) == 2


def test_a_job_that_fails_leaves_the_others_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", *SMALL, "seed=1,2", "sweep.name=s"]) == 0
    directory = only_folder()
    first, _ = directory.records()
    first.status, first.reason = "failed", "NaN at step 3"
    directory.write_job(first)
    assert sweep("seed=1,2", "sweep.name=s") == 0
    assert [record.attempts for record in directory.records()] == [2, 1]


def test_another_sweep_of_the_same_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("seed=1,2", "sweep.name=s") == 0
    capsys.readouterr()
    for changed, line in (
        (["seed=1,2,3"], "seed=1,2,3 is new to it"),
        (["seed=1,2", "optimizer.lr=0.5"], "optimizer.lr=0.5 is new to it"),
        (["seed=1"], "seed=1 is new to it"),
    ):
        assert sweep(*changed, "sweep.name=s") == 2
        assert line in capsys.readouterr().err
    assert started(only_folder().path) == 2


def test_a_configuration_that_changed_under_a_sweep_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    file = tmp_path / "mine" / "experiment" / "own.yaml"
    for rate in (0.1, 0.2):
        file.write_text(f"# @package _global_\noptimizer:\n  lr: {rate}\n")
        status = sweep("experiment=own", "seed=1,2", "sweep.name=s", "--config-dir=mine")
        assert status == (0 if rate == 0.1 else 2)
    assert "(it had optimizer.lr=0.1, not 0.2)" in capsys.readouterr().err


def test_a_sweep_may_be_extended() -> None:
    assert sweep("seed=1,2", "sweep.name=s") == 0
    assert sweep("seed=2,3", "sweep.name=s", "sweep.extend=true") == 0
    assert [record.name for record in only_folder().records()] == ["seed=1", "seed=2", "seed=3"]
    assert started(only_folder().path) == 3


@pytest.mark.parametrize(
    "text",
    [
        "+callbacks.x._target_=os.system",
        "model={_target_: os.system}",
        "hydra.searchpath=[file:///tmp/theirs]",
        "paths.runs=/tmp/elsewhere",
        "+callbacks.checkpoint.dirpath=/tmp/elsewhere",
        "name=${oc.env:HOME}",
    ],
)
def test_what_a_folder_records_runs_only_what_the_command_line_says(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("seed=1", "sweep.name=s") == 0
    directory = only_folder()
    plan = json.loads((directory.path / "sweep.json").read_text())
    plan["jobs"].append({"id": "theirs", "name": "theirs", "overrides": ["seed=7", text]})
    (directory.path / "sweep.json").write_text(json.dumps(plan))
    assert sweep("seed=1,2", "sweep.name=s", "sweep.extend=true") == 2
    assert f"records {text}, which may run any code" in capsys.readouterr().err
    assert started(directory.path) == 1


def test_the_ladder_is_every_precision_with_every_quantization() -> None:
    assert main(["train", "-m", "sweep=ladder", "experiment=digits", "seed=1"]) == 0
    directory = only_folder()
    assert directory.path.name.startswith("digits-ladder-")
    jobs = {record.name: record.overrides for record in directory.records()}
    assert len(jobs) == 16
    assert "precision.emulate=auto" not in jobs["precision=bf16 quantization=qat"]
    assert jobs["precision=fp8 quantization=ptq"][-1] == "precision.emulate=auto"
    more = ["precision.emulate=auto", "quantization.start=0.5"]
    assert jobs["precision=fp8 quantization=qat"][-2:] == more


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (["sweep.retry=1"], "there is no key sweep.retry; did you mean retries?"),
        (["sweep.retries=-1"], "sweep.retries=-1: it should be greater than or equal to 0"),
        (["sweep.name=a/b"], "sweep.name=a/b: it should match pattern"),
        (["sweep.on_failure=wait"], "it should be 'continue' or 'stop'"),
        (["sweep=steps"], "sweep=steps is not a choice of the group 'sweep'"),
        (["optimizer.lr=interval(0.1,1)"], "has no end of values: write sweep=search"),
        (["model.depth=range(1,1)"], "model.depth=range(1,1) stands for no value"),
        (["optimizer.lr=glob(*)"], "optimizer.lr=glob(*) stands for no value"),
        (["hydra.sweep.dir=a,b"], "Hydra's own keys have one value: quote it"),
        (["precision=fp32,fp64"], "precision=fp64 is not a choice"),
        (["precision=fp32,fp8"], "precision=fp8 needs"),
        (["model.width=1,2"], "model"),
        (["trainer.devices=2"], "a run of a sweep has one process"),
        (["sweep=search", "seed=1,2", "sweep.search.trials=0"], "sweep.search.trials=0"),
        (["sweep=search", "seed=1,2", "sweep.search.sampler=x"], "sampler=x is unknown"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_runs(
    wrong: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("seed=1,2", *wrong) == 2
    assert line in capsys.readouterr().err
    assert not list(Path().rglob("starts"))


def test_a_search_without_anything_to_vary(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("sweep=search") == 2
    assert "a search needs something to vary" in capsys.readouterr().err


def test_a_second_process_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("seed=1,2") == 0
    with only_folder().held():
        assert sweep("seed=1,2") == 2
    assert "is being run by another process" in capsys.readouterr().err


def killed_in_its_second_job(
    directory: SweepDirectory, arguments: Sequence[str]
) -> list[JobRecord]:
    """What a sweep's status files say after it was killed when that job had saved a checkpoint."""
    program = f"import sys; from bitladder.cli.main import main; sys.exit(main({arguments!r}))"
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program])
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        _, second, *_ = directory.records() if directory.plan.exists() else [None, None]
        run = second.run if second is not None and second.status == "running" else None
        if run and (directory.path / run / "checkpoints/last.ckpt").exists():
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    return directory.records()


def untimed(path: Path) -> list[dict[str, str]]:
    """A table without how long models take, and without their files' sizes, which vary by bytes."""
    varying = ("latency", "size_bytes")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not any(x in k for x in varying)} for row in rows]


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_where_its_running_job_stood(tmp_path: Path) -> None:
    quick = ["trainer.max_epochs=3", "optimizer.lr=0.01", "model.hidden=[8]", "sweep.name=s"]
    often = "callbacks.last_checkpoint.every_n_steps=1"
    arguments = ["train", "-m", *SMALL, *quick, often, "seed=1,2,3"]
    directory = SweepDirectory(tmp_path / "sweeps" / "s")
    first, second, third = killed_in_its_second_job(directory, arguments)
    assert (first.status, second.status, third.status) == ("completed", "running", "pending")
    assert main(arguments) == 0
    after = directory.records()
    assert [record.attempts for record in after] == [1, 2, 1]
    assert after[0] == first
    assert after[1].run == second.run
    results = [
        json.loads((directory.path / str(x.run) / "results.json").read_text()) for x in after
    ]
    assert [result["seed"] for result in results] == [1, 2, 3]
    log = directory.log_file(second.id).read_text()
    assert "going on from" in log
    assert "gone" not in log
    arguments[-1:] = ["seed=2,4", "sweep.name=never-killed"]
    assert main(arguments) == 0
    whole = SweepDirectory(tmp_path / "sweeps" / "never-killed")
    runs = [
        directory.path / str(second.run),
        whole.path / str(next(x.run for x in whole.records() if x.id == second.id)),
    ]
    metrics, never = (untimed(run / "metrics.csv") for run in runs)
    assert len(metrics) > 5
    assert metrics == never


@pytest.mark.slow
def test_a_job_that_cannot_go_on_says_so_and_begins_anew(tmp_path: Path) -> None:
    quick = ["trainer.max_epochs=1", "optimizer.lr=0.01", "model.hidden=[8]", "sweep.name=s"]
    arguments = ["train", "-m", *SMALL, *quick, "seed=1,2"]
    directory = SweepDirectory(tmp_path / "sweeps" / "s")
    _, second = killed_in_its_second_job(directory, arguments)
    assert second.run is not None
    config = directory.path / second.run / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.02"))
    assert main(arguments) == 0
    log = directory.log_file(second.id).read_text()
    assert f"{second.run} cannot go on: its configuration is another\nthe job begins anew\n" in log
    assert directory.records()[1].run not in (None, second.run)


@pytest.mark.slow
def test_a_search_measures_learns_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    search = [
        "sweep=search",
        "sweep.name=s",
        "trainer.max_epochs=2",
        "model.hidden=[4],[32]",
        "optimizer.lr=tag(log,interval(0.00001,0.1))",
        "~sweep.search.objectives",
        "+sweep.search.objectives={float/test/accuracy: maximize, float/size_bytes: minimize}",
        "sweep.search.prune.least_runs=1",
        "sweep.search.prune.share=1.0",
        "sweep.search.prune.grace=0",
    ]
    assert sweep(*search, "sweep.search.trials=2") == 0
    before = only_folder().records()
    assert sweep(*search, "sweep.search.trials=3") == 0
    after = only_folder().records()
    assert after[: len(before)] == before
    assert {record.status for record in after} <= {"completed", "pruned"}
    assert after[0].status == "completed"
    assert any("callbacks.prune" in text for text in after[-1].overrides)
    assert "not beaten in every objective: trial-000" in capsys.readouterr().out
