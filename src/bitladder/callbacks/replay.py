"""Training data from the middle of an epoch."""

import lightning as L
from lightning.fabric.utilities.data import _set_sampler_epoch
from lightning.fabric.utilities.types import _Stateful
from lightning.pytorch.loops.fetchers import _PrefetchDataFetcher


def has_workers(trainer: L.Trainer) -> bool:
    """Whether a training loader starts to read ahead as soon as it is iterated."""
    return any(getattr(loader, "num_workers", 0) > 0 for loader in _loaders(trainer))


def keeps_its_place(trainer: L.Trainer) -> bool:
    """Whether the loaders know where they stood: Lightning has then told them already."""
    loaders = _loaders(trainer)
    return bool(loaders) and all(isinstance(loader, _Stateful) for loader in loaders)


def batches_before(trainer: L.Trainer) -> int:
    """How many batches of the epoch that a resumed training stands in are over."""
    loop = trainer.fit_loop
    progress = loop.epoch_loop.batch_progress
    if not loop.restarting or progress.is_last_batch:
        return 0
    done = progress.current.state_dict()["processed"]
    return done if done < loop.max_batches else 0


def iterate_anew(trainer: L.Trainer) -> None:
    """Iterate over the training data from the start of the epoch that training stands in.

    Lightning has done that, but too early: before it knew the epoch, so that workers have read
    ahead in the order of the first.
    """
    epoch = trainer.fit_loop.epoch_progress.current.state_dict()["processed"]
    for loader in _loaders(trainer):
        _set_sampler_epoch(loader, epoch)
    iter(_fetcher(trainer))


def skip(trainer: L.Trainer, batches: int) -> None:
    """Read batches and drop them, so that whatever reads them draws the numbers that it drew."""
    fetcher = _fetcher(trainer)
    # A training_step that takes the iterator itself knows better what it has read.
    if isinstance(fetcher, _PrefetchDataFetcher):
        for _ in range(batches):
            next(fetcher)
        fetcher.fetched -= batches  # the loop adds those before a restart itself


def _fetcher(trainer: L.Trainer) -> _PrefetchDataFetcher:
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None, "there are batches, so there is something that fetches them"
    return fetcher  # type: ignore[return-value]


def _loaders(trainer: L.Trainer) -> list[object]:
    combined = trainer.fit_loop._combined_loader
    return list(combined.flattened) if combined is not None else []
