"""Where loaders stood that keep their place themselves, such as torchdata's."""

from typing import Any

import lightning as L
from lightning.pytorch.loops.fetchers import _PrefetchDataFetcher


class LoaderStates:
    """Their states before the next batch is read.

    Lightning saves those of the moment, when a checkpoint between two batches finds the next one
    read already. Where no length is known Lightning reads one batch more, ahead of the loop.
    """

    def __init__(self) -> None:
        self.current: list[dict[str, Any]] = []
        """A state a loader that has one."""
        self._last: list[dict[str, Any]] = []

    def before_epoch(self, trainer: L.Trainer) -> None:
        """The data are going to be iterated."""
        self._last = _states(trainer)

    def before_batch(self, trainer: L.Trainer) -> None:
        """A batch is going to be asked for."""
        states = _states(trainer)
        self.current = self._last if _reads_ahead(trainer) else states
        self._last = states

    def after_batch(self, trainer: L.Trainer) -> None:
        """It was trained on."""
        self.current = self._last if _reads_ahead(trainer) else _states(trainer)


def _states(trainer: L.Trainer) -> list[dict[str, Any]]:
    combined = trainer.fit_loop._combined_loader
    return [] if combined is None else combined._state_dicts()


def _reads_ahead(trainer: L.Trainer) -> bool:
    fetcher = trainer.fit_loop._data_fetcher
    return isinstance(fetcher, _PrefetchDataFetcher) and fetcher.length is None
