import logging
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger

from bitladder.cli.guard import GuardedLogger


class Flaky(Logger):
    """Keeps what it gets, and fails at every metric of a step that is odd."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    @property
    def name(self) -> str:
        return "flaky"

    @property
    def version(self) -> str:
        return "v1"

    @property
    def save_dir(self) -> str:
        return "there"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if step is not None and step % 2:
            raise ConnectionError(f"no answer\nat step {step}")
        self.calls.append((metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.calls.append(params)

    def finalize(self, status: str) -> None:
        self.calls.append(status)


def test_a_failure_is_one_warning_and_later_calls_are_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flaky = Flaky()
    guarded = GuardedLogger("logger.flaky", flaky)
    with caplog.at_level(logging.WARNING):
        for step in range(6):
            guarded.log_metrics({"loss": 1.0}, step=step)
    assert flaky.calls == [({"loss": 1.0}, step) for step in (0, 2, 4)]
    assert caplog.messages == ["logger.flaky lacks a part of this run: ConnectionError: no answer"]
    guarded.close("success")
    assert caplog.messages[1:] == ["logger.flaky: 3 calls failed, the first is above"]


def test_the_record_ends_with_the_run_not_with_its_training() -> None:
    flaky = Flaky()
    guarded = GuardedLogger("logger.flaky", flaky)
    guarded.finalize("success")
    assert flaky.calls == []
    guarded.close("failed")
    assert flaky.calls == ["failed"]


def test_it_stands_for_its_logger() -> None:
    guarded = GuardedLogger("logger.flaky", Flaky())
    assert (guarded.name, guarded.version, guarded.save_dir) == ("flaky", "v1", "there")
    guarded.log_hyperparams({"a": 1})
    assert guarded.logger.calls == [{"a": 1}]  # type: ignore[attr-defined]


def test_an_interrupt_is_no_failure_of_the_logger() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GuardedLogger("logger.flaky", Flaky()).attempt(interrupted)
