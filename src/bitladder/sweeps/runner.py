"""Runs a sweep's jobs, and keeps their status files up to date."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import wait
from typing import Literal, Protocol

from bitladder.errors import UserError
from bitladder.runs import Results
from bitladder.runs.sweep_directory import Job, JobRecord, SweepDirectory
from bitladder.sweeps.process import JobProcess

OnFailure = Literal["continue", "stop"]

REFRESH_SECONDS = 0.5

INTERRUPTED = 130
"""Exit status of a job that Ctrl-C ended."""

PRUNED = 3
"""Exit status of a job that was given up for being hopeless."""

LOST = 255
"""What is known of a job that was forked off a server which was killed; it ended with it."""

DONE = ("completed", "pruned")


class Watcher(Protocol):
    """What is told how the jobs go."""

    def update(self, records: Sequence[JobRecord]) -> None:
        """Show how far all jobs are; called at every change and twice a second."""


@dataclass
class Runner:
    """Runs jobs, some at a time, until none is left.

    Attributes:
        directory: The sweep's.
        start: Starts a job. Is given the run directory that it shall go on with, if it was killed
            before.
        parallel: How many run at a time.
        retries: How often a job that failed or was killed is started again.
        on_failure: What one that failed for good means for those that have not started.
        watcher: Is told how they go.
    """

    directory: SweepDirectory
    start: Callable[[Job, str | None], JobProcess]
    parallel: int
    retries: int
    on_failure: OnFailure
    watcher: Watcher

    def run(self, jobs: Sequence[Job]) -> list[JobRecord]:
        """Run those jobs that are not done. May be called again with more.

        Returns:
            How far each is, in the order of the jobs.

        Raises:
            KeyboardInterrupt: After the jobs that ran have ended; their status says so.
            RunError: If a status file cannot be written.
        """
        records = {job.id: self.directory.read_job(job) for job in jobs}
        waiting = [job for job in jobs if not self._is_done(records[job.id])]
        tries = dict.fromkeys(records, 0)
        running: dict[str, JobProcess] = {}
        by_id = {job.id: job for job in jobs}
        try:
            while waiting or running:
                while waiting and len(running) < self.parallel:
                    job = waiting.pop(0)
                    tries[job.id] += 1
                    running[job.id] = self._begin(job, records[job.id])
                self.watcher.update(list(records.values()))
                for job_id in self._ended(running, records):
                    record = records[job_id]
                    if record.status in DONE:
                        continue
                    if tries[job_id] <= self.retries:
                        waiting.insert(0, by_id[job_id])
                    elif self.on_failure == "stop":
                        waiting.clear()
        except KeyboardInterrupt:
            self._interrupt(running, records)
            raise
        finally:
            for job in running.values():  # those of a runner that failed itself end with it
                job.close()
            self.watcher.update(list(records.values()))
        return list(records.values())

    def _is_done(self, record: JobRecord) -> bool:
        """Whether a job need not run: its status says so, and its results and models are there."""
        if record.status != "completed" or record.run is None:
            return record.status == "pruned"
        results = self._results(record)
        if results is None or results.status != "completed":
            return False
        return results.damage(self.directory.path / record.run) is None

    def _begin(self, job: Job, record: JobRecord) -> JobProcess:
        # One whose sweep was killed is still called running. One that failed might do so again, or
        # its code was mended since.
        if record.status not in ("running", "killed"):
            record.run = None
        record.status, record.attempts = "running", record.attempts + 1
        record.exit_status = record.reason = record.ended = None
        record.started = _now()
        self.directory.write_job(record)
        return self.start(job, record.run)

    def _ended(self, running: dict[str, JobProcess], records: dict[str, JobRecord]) -> list[str]:
        """Wait a little, note the run directories told, and take out the jobs that ended."""
        sentinels = [job.process.sentinel for job in running.values()]
        wait([*sentinels, *(job.link for job in running.values())], REFRESH_SECONDS)
        ended = []
        for job_id, job in list(running.items()):
            # Asked first: what is told before the end is then read below.
            over = not job.process.is_alive()
            self._listen(job, records[job_id])
            if over:
                del running[job_id]
                job.close()
                self._finish(records[job_id], job.process.exitcode)
                ended.append(job_id)
        return ended

    def _listen(self, job: JobProcess, record: JobRecord) -> None:
        try:
            while job.link.poll():
                record.run = job.link.recv()
                self.directory.write_job(record)
        except (EOFError, OSError):
            return  # its end of the link is closed: it is about to end

    def _finish(self, record: JobRecord, exit_status: int | None) -> None:
        record.exit_status, record.ended = exit_status, _now()
        results = self._results(record)
        if exit_status == 0:
            record.status = "completed"
        elif exit_status == PRUNED:
            record.status, record.reason = "pruned", results.reason if results else None
        elif exit_status == INTERRUPTED:
            record.status, record.reason = "killed", "interrupted"
        elif exit_status == LOST:
            record.status, record.reason = "killed", "the server of the jobs was killed"
        elif exit_status is None or exit_status < 0:
            record.status, record.reason = "killed", f"killed by signal {-(exit_status or 0)}"
        else:
            reason = results.reason if results else None
            record.status = "failed"
            record.reason = reason or f"see {self.directory.log_file(record.id).name}"
        self.directory.write_job(record)

    def _results(self, record: JobRecord) -> Results | None:
        if record.run is None:
            return None
        try:
            return Results.read(self.directory.path / record.run / "results.json")
        except UserError:
            return None

    def _interrupt(self, running: dict[str, JobProcess], records: dict[str, JobRecord]) -> None:
        for job_id, job in running.items():
            job.interrupt()
            self._listen(job, records[job_id])
            self._finish(records[job_id], INTERRUPTED)
            job.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
