import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitladder.errors import UserError
from bitladder.runs import RunDirectory
from bitladder.runs.lock import locked
from bitladder.runs.reading import is_held


def test_a_second_holder_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with locked(directory):
        assert is_held(directory.lock)
        with pytest.raises(UserError, match="belongs to another process"), locked(directory):
            pass
    assert is_held(directory.lock) is False
    with locked(directory):
        pass


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.lock.mkdir()  # for root, who may write everywhere
    with pytest.raises(UserError, match=r"cannot write .*run\.lock"), locked(directory):
        pass


def test_forked_workers_do_not_keep_the_lock(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with locked(directory):
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
    try:
        assert is_held(directory.lock) is False
    finally:
        worker.kill()
        worker.join()


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from bitladder.runs import RunDirectory; from bitladder.runs.lock import locked\n"
        "with locked(RunDirectory(Path(sys.argv[1]))): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    directory = RunDirectory(tmp_path)
    with pytest.raises(UserError), locked(directory):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with locked(directory):
        pass
