import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any

import pytest

from bitladder.callbacks import LastCheckpoint
from bitladder.cli.interrupts import interruptible
from bitladder.cli.workers import sheltered_workers

FORK = multiprocessing.get_context("fork")


def forked() -> BaseProcess:
    """A process that says when it runs, and ends by itself after a while."""
    begun = FORK.Event()

    def run() -> None:
        begun.set()
        time.sleep(30)

    process = FORK.Process(target=run, daemon=True)
    process.start()
    assert begun.wait(10)
    return process


def send(process: BaseProcess, number: int) -> None:
    """As another process than its parent."""
    command = f"import os; os.kill({process.pid}, {number})"
    subprocess.run([sys.executable, "-c", command], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_outlives_the_signal_that_everybody_gets(number: int) -> None:
    with sheltered_workers():
        process = forked()
    send(process, number)
    process.join(0.3)
    assert process.is_alive()
    process.terminate()  # as its parent does when it hangs
    process.join(10)
    assert process.exitcode == 0


@pytest.mark.parametrize("before", [nullcontext, sheltered_workers])
def test_a_process_forked_outside_of_the_block_ends_as_ever(before: type[nullcontext]) -> None:
    with before():
        pass
    process = forked()
    send(process, signal.SIGTERM)
    process.join(10)
    assert process.exitcode == -signal.SIGTERM


def test_this_process_hears_signals_as_ever() -> None:
    with sheltered_workers(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(10)
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("prepare", [None, os.setsid])
def test_a_program_that_the_run_starts_hears_signals(number: int, prepare: Any) -> None:
    with sheltered_workers():
        process = subprocess.Popen(["sleep", "30"], preexec_fn=prepare)
    process.send_signal(number)
    assert end(process) == -number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_somebody_forks_himself_ends_as_without_a_run(number: int) -> None:
    ready, say = os.pipe()
    with interruptible(trainer := SimpleNamespace(callbacks=[LastCheckpoint()])):  # type: ignore[arg-type]
        trainer.callbacks[0].training = True
        child = os.fork()
        if child == 0:
            try:
                os.write(say, b"x")
                time.sleep(30)
            except KeyboardInterrupt:
                os._exit(3)
            os._exit(0)
        os.read(ready, 1)
        os.kill(child, number)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (3 if number == signal.SIGINT else -number)


def test_a_thread_that_a_library_starts_at_the_fork_hears_no_signal_either() -> None:
    threads: list[threading.Thread] = []

    def start() -> None:
        if threads:
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()

    os.register_at_fork(after_in_child=start)
    threads.append(threading.main_thread())
    try:
        with sheltered_workers():
            process = forked()
    finally:
        threads.clear()  # what is registered stays so
    send(process, signal.SIGTERM)
    process.join(0.3)
    assert process.is_alive()
    process.terminate()
    process.join(10)
    assert process.exitcode == 0
