"""Training data read in a stream of random numbers of their own, and from the middle of an epoch.

What is read then depends on the seed and the epoch alone, whatever the training draws in between.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import lightning as L
import numpy as np
from lightning.fabric.utilities.data import _set_sampler_epoch
from lightning.fabric.utilities.types import _Stateful
from lightning.pytorch.loops.fetchers import _PrefetchDataFetcher

from bitladder.callbacks.attributes import is_users
from bitladder.callbacks.generators import (
    Generator,
    States,
    capture,
    capture_but_numpy,
    restore,
    restore_but_numpy,
    seed_all,
)
from bitladder.callbacks.own_generators import find

# NumPy documents both; its type stubs do not know them.
_GET_NUMPY: Callable[[], np.random.BitGenerator] = getattr(np.random, "get_bit_generator")  # noqa: B009
_SET_NUMPY: Callable[[np.random.BitGenerator], None] = getattr(np.random, "set_bit_generator")  # noqa: B009


class Stream:
    """Random numbers for the block of a ``with``; those outside go on as if it were not there.

    NumPy's generator is exchanged, not its state: to read and write that takes longer than all the
    rest. What it keeps of a pair of normal numbers is forgotten at the block's edges.
    """

    def __init__(self) -> None:
        self.outside = capture()
        """The states outside when the last batch was read."""
        self._inside = self.outside
        self._numpy: np.random.BitGenerator = np.random.MT19937()
        self._numpy_outside: np.random.BitGenerator = self._numpy

    def seed(self, *numbers: int) -> None:
        """Begin anew."""
        with self._aside():
            seed_all(*numbers)

    def capture(self) -> States:
        """The states inside."""
        with self._aside():
            return capture()

    def restore(self, states: States) -> None:
        """Go on from there."""
        with self._aside():
            restore(states)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """A block in which nothing is read."""
        outside = self.outside
        with self:
            yield
        self.outside = outside

    def __enter__(self) -> Self:
        self.outside = capture()
        self._numpy_outside = _GET_NUMPY()
        _SET_NUMPY(self._numpy)
        restore_but_numpy(self._inside)
        return self

    def __exit__(self, *_: object) -> None:
        self._inside = capture_but_numpy(self._inside)
        _SET_NUMPY(self._numpy_outside)
        restore_but_numpy(self.outside)


class StreamFetcher(_PrefetchDataFetcher):
    """Lightning's fetcher, which reads inside a stream.

    Args:
        fetcher: Lightning's, whose place it takes, with what that has read already.
        stream: Where reading draws from.
        before_read: Is called before each batch is read.
    """

    def __init__(
        self, fetcher: _PrefetchDataFetcher, stream: Stream, before_read: Callable[[], None]
    ) -> None:
        super().__init__(fetcher.prefetch_batches)
        vars(self).update(vars(fetcher))
        self.stream, self.before_read = stream, before_read

    def __iter__(self) -> Self:
        with self.stream:
            super().__iter__()
        return self

    def __next__(self) -> Any:
        self.before_read()
        with self.stream:
            return super().__next__()

    def skip(self, batches: int) -> None:
        """Read batches and drop them, so that whatever reads them draws the numbers it drew."""
        with self.stream:
            for _ in range(batches):
                super().__next__()
        self.fetched -= batches  # the loop adds those before a restart itself


def watch_loaders(
    trainer: L.Trainer,
    stream: Stream,
    before_loaders: Callable[[], None],
    before_read: Callable[[], None],
    before_validation: Callable[[], None],
) -> None:
    """Let Lightning ask for training data, iterate over them and read them in a stream.

    A ``training_step`` that takes the iterator itself reads as it pleases.

    Args:
        trainer: Is about to fit.
        stream: Where reading draws from.
        before_loaders: Is called before loaders are asked for.
        before_read: Is called before a batch is read.
        before_validation: Is called before validation data are iterated over.
    """
    loop = trainer.fit_loop
    if "setup_data" in vars(loop):
        return  # of a fit that failed
    set_up = loop.setup_data

    def in_stream() -> None:
        if loop._combined_loader is not None and not loop._should_reload_train_dl:
            return
        before_loaders()
        with stream:
            set_up()
        fetcher = loop._data_fetcher
        if type(fetcher) is _PrefetchDataFetcher:
            loop._data_fetcher = StreamFetcher(fetcher, stream, before_read)

    loop.setup_data = in_stream
    validation = loop.epoch_loop.val_loop
    set_up_validation = validation.setup_data

    def with_validation() -> None:
        set_up_validation()
        before_validation()

    validation.setup_data = with_validation


def watch_no_more(trainer: L.Trainer) -> None:
    """Leave Lightning alone again."""
    for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop):
        vars(loop).pop("setup_data", None)


def is_iterated(trainer: L.Trainer) -> bool:
    """Whether the epoch that is about to start goes on with the iterator that there is."""
    loop = trainer.fit_loop
    return loop.epoch_loop.restarting or loop.is_resuming or trainer.current_epoch == 0


def is_ahead(trainer: L.Trainer) -> bool:
    """Whether batches were read that are not there again if the data are iterated anew.

    Lightning reads one ahead where no length is known. Workers read copies of the data.
    """
    workers = any(getattr(loader, "num_workers", 0) > 0 for loader in _loaders(trainer))
    return bool(getattr(trainer.fit_loop._data_fetcher, "batches", ())) and not workers


def keeps_its_place(trainer: L.Trainer) -> bool:
    """Whether loaders know where they stood, which Lightning has told them, or cannot go back."""
    loaders = _loaders(trainer)
    stateful = bool(loaders) and all(isinstance(loader, _Stateful) for loader in loaders)
    return stateful or any(isinstance(loader, Iterator) for loader in loaders)


def restore_places(trainer: L.Trainer) -> None:
    """Tell loaders where they stood, if Lightning has not.

    It has not where it iterated over them before it read the checkpoint, to count the steps.
    """
    loop = trainer.fit_loop
    states, loop._combined_loader_states_to_load = loop._combined_loader_states_to_load, []
    if states and loop._combined_loader is not None and loop._data_fetcher is not None:
        loop._combined_loader._load_state_dicts(states)
        iter(loop._data_fetcher)


def epoch(trainer: L.Trainer) -> int:
    """The epoch that training stands in; ``current_epoch`` may still be the one before."""
    return trainer.fit_loop.epoch_progress.current.state_dict()["processed"]


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
    for loader in _loaders(trainer):
        _set_sampler_epoch(loader, epoch(trainer))
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None, "there are batches, so there is something that fetches them"
    iter(fetcher)


def skip(trainer: L.Trainer, batches: int) -> None:
    """Drop the batches that are over."""
    fetcher = trainer.fit_loop._data_fetcher
    # A training_step that takes the iterator itself knows better what it has read.
    if isinstance(fetcher, StreamFetcher):
        fetcher.skip(batches)


def reading_generators(trainer: L.Trainer) -> list[Generator]:
    """Those that training data are read with, which reading an epoch anew draws from again."""
    return find(x for x in _loaders(trainer) if not isinstance(x, _Stateful))


def all_generators(trainer: L.Trainer, module: L.LightningModule) -> dict[str, list[Generator]]:
    """Every generator by what holds it first; what a loader that keeps its place has is its own."""
    placed = [x for x in _loaders(trainer) if isinstance(x, _Stateful)]
    validation = trainer.fit_loop.epoch_loop.val_loop._combined_loader
    callbacks: list[L.Callback] = getattr(trainer, "callbacks", [])
    roots: dict[str, list[object]] = {
        "module": [module],
        "data module": [getattr(trainer, "datamodule", None)],
        "callbacks": [callback for callback in callbacks if is_users(callback)],
        "data": [getattr(x, name, None) for x in placed for name in ("dataset", "collate_fn")],
        "validation": list(validation.flattened) if validation is not None else [],
    }
    found = {"training data": reading_generators(trainer)}
    seen = {id(x) for x in (*found["training data"], *find(x for x in placed if not _has_data(x)))}
    for name, values in roots.items():
        found[name] = [x for x in find(values) if id(x) not in seen]
        seen.update(id(x) for x in found[name])
    return found


def _has_data(loader: object) -> bool:
    return hasattr(loader, "dataset")


def _loaders(trainer: L.Trainer) -> list[object]:
    combined = trainer.fit_loop._combined_loader
    return list(combined.flattened) if combined is not None else []
