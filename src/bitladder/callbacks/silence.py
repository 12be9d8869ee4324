"""Loggers that record nothing for a while."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.loggers import Logger


class Silence:
    """Keeps what hooks log that a process has called before from being recorded once more.

    What is called on a logger's ``experiment`` is recorded all the same.
    """

    def __init__(self) -> None:
        self._loggers: list[Logger] = []

    def begin(self, loggers: Iterable[Logger]) -> None:
        """From here on their ``log_metrics`` does nothing."""
        self._loggers = list(loggers)
        for logger in self._loggers:
            vars(logger)["log_metrics"] = _nothing

    def end(self) -> None:
        """They record again; may be repeated."""
        for logger in self._loggers:
            vars(logger).pop("log_metrics", None)
        self._loggers = []


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass
