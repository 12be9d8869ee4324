"""Jobs in processes: what becomes of them, and of their status files."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bitladder.errors import RunError, UserError
from bitladder.runs.sweep_directory import Job, JobRecord, SweepDirectory
from bitladder.sweeps.process import JobProcess, start
from bitladder.sweeps.runner import OnFailure, Runner


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


class Silent:
    def update(self, records: Sequence[JobRecord]) -> None:
        pass


def jobs(*what: str) -> list[Job]:
    return [Job(id=f"j{i}", name=f"do={x}", overrides=[f"do={x}"]) for i, x in enumerate(what)]


def runner(
    folder: Path, *, retries: int = 0, on_failure: OnFailure = "continue", parallel: int = 1
) -> Runner:
    directory = SweepDirectory(folder)
    directory.jobs.mkdir(exist_ok=True)

    def begin(job: Job, unfinished: str | None) -> JobProcess:
        log = directory.log_file(job.id)
        return start("sweep_jobs:run", (job.overrides, str(folder), unfinished), log)

    return Runner(directory, begin, parallel, retries, on_failure, Silent())


def starts(folder: Path) -> list[str]:
    return (folder / "starts").read_text().split()


def test_each_job_leaves_its_status_its_run_and_its_log(tmp_path: Path) -> None:
    what = ("ok", "fail", "raise", "die", "before", "hopeless")
    records = runner(tmp_path).run(jobs(*what))
    statuses = ["completed", "failed", "failed", "killed", "killed", "pruned"]
    assert [record.status for record in records] == statuses
    reasons = [record.reason for record in records]
    assert reasons == [
        None,
        "NaN at step 3",
        "see j2.log",
        "killed by signal 9",
        "killed by signal 9",
        "worse than the others",
    ]
    directory = SweepDirectory(tmp_path)
    assert [directory.read_job(job) for job in jobs(*what)] == records
    for record, name in zip(records, what, strict=True):
        assert record.attempts == 1
        if name == "before":
            assert record.run is None
        else:
            assert record.run is not None
            assert (tmp_path / record.run).is_dir()
    log = directory.log_file("j2").read_text()
    assert "this is raise" in log
    assert "Traceback" in log
    assert "ValueError: a fault of ours" in log
    assert "this is raise" not in directory.log_file("j1").read_text()


def test_a_job_starts_its_own_processes_as_any_run_does(tmp_path: Path) -> None:
    runner(tmp_path).run(jobs("worker"))
    log = SweepDirectory(tmp_path).log_file("j0").read_text()
    assert log.splitlines()[-1] == multiprocessing.get_start_method()


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    what = jobs("ok", "die", "hopeless")
    runner(tmp_path).run(what)
    (second,) = [x for x in runner(tmp_path).run(what) if x.name == "do=die"]
    assert second.attempts == 2
    assert starts(tmp_path) == ["ok", "die", "hopeless", "die"]


def test_what_was_killed_goes_on_and_what_failed_begins_anew(tmp_path: Path) -> None:
    what = jobs("die", "fail")
    killed, failed = runner(tmp_path).run(what)
    before = killed.run
    runner(tmp_path).run(what)
    directory = SweepDirectory(tmp_path)
    killed_log, failed_log = (directory.log_file(x.id).read_text() for x in (killed, failed))
    assert f"this is die, after {before}\n" in killed_log
    assert failed_log.count("this is fail, after None\n") == 2


def test_a_completed_job_without_its_results_is_done_again(tmp_path: Path) -> None:
    (record,) = runner(tmp_path).run(jobs("ok"))
    assert record.run is not None
    (tmp_path / record.run / "results.json").write_text('{"status": "comp')
    (again,) = runner(tmp_path).run(jobs("ok"))
    assert (again.status, again.attempts) == ("completed", 2)
    assert again.run != record.run


def test_a_failed_job_is_started_again_as_often_as_asked(tmp_path: Path) -> None:
    once, fail, last = runner(tmp_path, retries=2).run(jobs("once", "fail", "ok"))
    assert (once.status, once.attempts) == ("completed", 2)
    assert (fail.status, fail.attempts) == ("failed", 3)
    assert last.status == "completed"


def test_stop_leaves_what_has_not_started(tmp_path: Path) -> None:
    records = runner(tmp_path, on_failure="stop").run(jobs("ok", "fail", "ok"))
    assert [record.status for record in records] == ["completed", "failed", "pending"]


def test_several_at_a_time(tmp_path: Path) -> None:
    records = runner(tmp_path, parallel=3).run(jobs("ok", "fail", "ok", "raise", "ok"))
    statuses = ["completed", "failed", "completed", "failed", "completed"]
    assert [record.status for record in records] == statuses
    assert len({record.run for record in records}) == 5


def test_it_may_be_called_again_with_more(tmp_path: Path) -> None:
    work = runner(tmp_path)
    first = jobs("ok", "ok")
    assert work.run(first[:1])[0].status == "completed"
    assert work.run(first)[1].status == "completed"
    assert starts(tmp_path) == ["ok", "ok"]


SWEEP = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path[:0] = eval(sys.argv[2])
from pathlib import Path
import test_runner
if __name__ == "__main__":
    try:
        test_runner.runner(Path(sys.argv[1]), parallel=2).run(test_runner.jobs("ok", "sleep", "ok"))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def launched(folder: Path) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own."""
    (folder / "program.py").write_text(SWEEP)
    path = [str(Path(__file__).parent), *sys.path]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(folder / "program.py"), str(folder), repr(path)],
        start_new_session=True,
    )


def a_sweep(folder: Path) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own, its last job asleep."""
    sweep = launched(folder)
    deadline = time.monotonic() + 120
    finished = [folder / "jobs" / f"j{index}.json" for index in (0, 2)]
    while time.monotonic() < deadline:
        if all(x.exists() and '"completed"' in x.read_text() for x in finished):
            return sweep
        assert sweep.poll() is None
        time.sleep(0.05)
    raise AssertionError("the jobs did not end")


def children(folder: Path) -> list[int]:
    """The processes that work in a sweep's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            log = os.readlink(entry / "fd" / "1")
        except OSError:
            continue
        if log.startswith(str(folder / "jobs")):
            found.append(int(entry.name))
    return found


def test_a_killed_sweep_takes_its_jobs_with_it_and_goes_on_later(tmp_path: Path) -> None:
    sweep = a_sweep(tmp_path)
    assert len(children(tmp_path)) == 1
    sweep.kill()
    sweep.wait()
    deadline = time.monotonic() + 20
    while children(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children(tmp_path) == []
    what = [*jobs("ok", "sleep", "ok")]
    directory = SweepDirectory(tmp_path)
    assert [directory.read_job(job).status for job in what] == ["completed", "running", "completed"]
    what[1] = Job(id="j1", name="do=ok", overrides=["do=ok"])  # it sleeps no more
    records = runner(tmp_path).run(what)
    assert [record.status for record in records] == ["completed"] * 3
    assert [record.attempts for record in records] == [1, 2, 1]


def test_a_killed_server_of_the_jobs_kills_them_and_they_go_on(tmp_path: Path) -> None:
    sweep = a_sweep(tmp_path)
    (job,) = children(tmp_path)
    status = Path(f"/proc/{job}/status").read_text()
    server = int(status.partition("PPid:")[2].split()[0])
    assert server != sweep.pid
    os.kill(server, signal.SIGKILL)
    sweep.wait(timeout=60)
    record = SweepDirectory(tmp_path).read_job(jobs("ok", "sleep")[1])
    assert (record.status, record.reason) == ("killed", "the server of the jobs was killed")
    assert record.run is not None
    what = Job(id="j1", name="do=ok", overrides=["do=ok"])  # it sleeps no more
    runner(tmp_path).run([what])
    directory = SweepDirectory(tmp_path)
    assert f"this is ok, after {record.run}" in directory.log_file("j1").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["jobs/j0.json", "run-ok*", "run-sleep*", "jobs/j2.json"])
def test_a_sweep_killed_at_any_moment_goes_on(tmp_path: Path, moment: str) -> None:
    sweep = launched(tmp_path)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob(moment)):
        assert sweep.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    sweep.kill()
    sweep.wait()
    while children(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    directory = SweepDirectory(tmp_path)
    what = [directory.read_job(job) for job in jobs("ok", "sleep", "ok")]  # every file is whole
    records = runner(tmp_path).run(jobs("ok", "ok", "ok"))
    assert [record.status for record in records] == ["completed"] * 3
    for before, after in zip(what, records, strict=True):
        if before.status == "completed":
            assert after == before
        else:
            assert after.attempts == before.attempts + 1


def test_a_runner_that_cannot_write_ends_with_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = runner(tmp_path, parallel=2)
    write = SweepDirectory.write_job

    def full(directory: SweepDirectory, record: JobRecord) -> None:
        if record.status == "failed":
            raise RunError("cannot write: no space left on device")
        write(directory, record)

    monkeypatch.setattr(SweepDirectory, "write_job", full)
    with pytest.raises(RunError, match="no space left"):
        work.run(jobs("sleep", "fail"))
    deadline = time.monotonic() + 60
    while children(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children(tmp_path) == []


def test_an_interrupted_sweep_lets_its_jobs_leave_and_notes_it(tmp_path: Path) -> None:
    sweep = a_sweep(tmp_path)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(60) == 130
    assert children(tmp_path) == []
    (job,) = [x for x in jobs("ok", "sleep", "ok") if x.name == "do=sleep"]
    record = SweepDirectory(tmp_path).read_job(job)
    assert (record.status, record.reason) == ("killed", "interrupted")


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path / "sweep")
    with directory.held(), pytest.raises(UserError, match="is being run by another process"):
        directory.held().__enter__()
    with directory.held():
        pass
