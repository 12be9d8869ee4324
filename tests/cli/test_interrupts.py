import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from bitladder.callbacks import LastCheckpoint
from bitladder.cli.interrupts import interruptible
from bitladder.errors import Interrupted

LOST = RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated. ")


@pytest.fixture
def trainer() -> Any:
    """One that trains."""
    last = LastCheckpoint()
    last.training = True
    return SimpleNamespace(callbacks=[last])


def fit(trainer: Any, *numbers: int, error: Exception | None = None) -> None:
    """What is signalled, and then fails."""
    with interruptible(trainer):
        for number in numbers:
            os.kill(os.getpid(), number)
        if error is not None:
            raise error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_the_signal_ended_is_no_failure(trainer: Any, number: int) -> None:
    with pytest.raises(Interrupted) as interrupted:
        fit(trainer, number, error=LOST)
    assert interrupted.value.signal == number


def test_a_worker_that_ends_by_itself_is_one(trainer: Any) -> None:
    with pytest.raises(RuntimeError, match="pid 1"):
        fit(trainer, error=LOST)


def test_what_fails_after_a_signal_is_a_failure(trainer: Any) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(trainer, signal.SIGTERM, error=RuntimeError("out of memory"))


def test_the_first_signal_lets_the_block_go_on_and_the_second_ends_it(trainer: Any) -> None:
    fit(trainer, signal.SIGINT)
    with pytest.raises(Interrupted):
        fit(trainer, signal.SIGINT, signal.SIGINT)
