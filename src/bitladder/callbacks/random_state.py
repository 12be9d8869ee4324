"""Random numbers that go on where a checkpoint left them."""

import warnings
from enum import IntEnum
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn

from bitladder.callbacks import own_generators, replay
from bitladder.callbacks.generators import (
    Generator,
    States,
    capture,
    from_plain,
    restore,
    seed_all,
    to_plain,
)
from bitladder.callbacks.last_checkpoint import LastCheckpoint
from bitladder.callbacks.loader_states import LoaderStates
from bitladder.callbacks.ranks import of_every_rank, own_part
from bitladder.errors import UserError

State = dict[str, Any]


class _Phase(IntEnum):
    """What draws from a seed of its own."""

    TRAINING = 0
    READING = 1
    VALIDATION = 2
    VALIDATED = 3
    AFTER = 4


class RandomState(L.Callback):
    """Random numbers and batches after a resume are those of the run that was never interrupted.

    Lightning saves no generator's state, so dropout, augmentation and shuffling would differ. The
    reading of every epoch, its training, every validation, the training after it and what follows
    the training each draw from a seed made of the run's seed and the epoch or step, and the main
    process reads in a stream of its own: what is drawn in between, such as by workers that one
    process starts earlier than another, has no influence. A checkpoint from the middle of an epoch
    keeps the state before the next batch was read: the batches up to it are read again, from the
    epoch's seed, and dropped. Each of several processes goes on with its own.

    Exact are orders, transforms and training that draw from Python's, NumPy's or PyTorch's global
    generators, from generators of their own that are there before the first batch
    (:func:`bitladder.callbacks.own_generators.find`), or from seeds of their own, without workers
    as with workers that live for an epoch; loaders that keep their place themselves
    (``state_dict``) are left to it. Not exact: transforms that draw in ``persistent_workers``,
    whose generators are as old as the process.

    A fit from a checkpoint of another folder than :class:`LastCheckpoint`'s is another run, and
    draws from its own seed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seed = 0
        self._ranks: list[State] = []
        self._restored: State | None = None
        self._stream = replay.Stream()
        self._in_batch = False
        """Whether the batch was read that is trained on next."""
        self._read: States | None = None
        """What it was read from, by loaders that do not read it again."""
        self._loaders = LoaderStates()
        self._generators: list[Any] = []
        """Where those of the training data stood when the epoch began."""
        self._own: dict[str, list[Generator]] = {}
        """All that somebody made, by what holds them."""
        self._own_states: dict[str, list[Any]] = {}
        """Where they stood before the next batch was read."""
        self._pending_own: dict[str, list[Any]] = {}
        """Where they are to stand in a resumed fit, before they draw."""
        self._is_over = False
        self._pending: States | None = None
        """What the training goes on with at the next batch."""
        self._made_anew = False
        """Whether Lightning has asked for loaders since the last epoch started."""
        self._at_start = False
        """Whether no batch of the epoch was trained on."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the seed that PyTorch was given, before anything is read."""
        if stage == "fit":
            self._seed = torch.initial_seed() % 2**63
            replay.watch_loaders(
                trainer,
                self._stream,
                partial(self._before_loaders, trainer),
                partial(self._before_batch, trainer, pl_module),
                partial(self._before_validation, trainer, pl_module),
            )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave the trainer as it was."""
        if stage == "fit":
            replay.watch_no_more(trainer)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the seed that the checkpoint brought, if this is its run."""
        if self._ranks:
            self._restored = own_part(trainer, self._ranks)
            self._ranks = []
            if _is_own(trainer):
                self._seed = self._restored["seed"]

    def state_dict(self) -> State:
        """The generators' states as tensors and plain containers, of this rank alone."""
        # A checkpoint may be written when the next batch has been read, and augmented, already.
        if self._in_batch:
            training, reading = self._stream.outside, self._read
        else:
            training, reading = self._pending or capture(), None
        reading = reading or self._stream.capture()
        own = self._own_states if self._in_batch else _states(self._own)
        more = {
            "seed": self._seed,
            "reading": to_plain(reading),
            "generators": self._generators,
            "own": own | self._pending_own,
        }
        return {"ranks": [to_plain(training) | more]}

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the states of every rank."""
        (own,) = checkpoint["callbacks"][self.state_key]["ranks"]
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self._is_over or (is_last and not self._in_batch):
            own["generators"] = self._reading_states(trainer)  # for what follows the epoch
        checkpoint["callbacks"][self.state_key] = {"ranks": of_every_rank(trainer, own)}
        if self._loaders.current:
            checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"] = self._loaders.current

    def load_state_dict(self, state_dict: State) -> None:
        """Keep the states until training starts."""
        self._ranks = state_dict["ranks"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read from the epoch's start, up to the batch that the checkpoint stands before."""
        state, self._restored = self._restored, None
        before = 0 if state is None else replay.batches_before(trainer)
        self._at_start, self._made_anew, self._pending = before == 0, False, None
        self._is_over, self._own = False, {}
        if state is not None and _is_own(trainer):
            own_generators.set_states(replay.reading_generators(trainer), state["generators"])
            self._pending_own = dict(state.get("own", {}))
            self._stream.restore(from_plain(state["reading"]))
            self._pending = from_plain(state) if before else None
        self._note_loaders(trainer)
        if state is not None and replay.keeps_its_place(trainer):
            replay.restore_places(trainer)
        elif state is not None or not replay.is_ahead(trainer):
            self._seed_reading(trainer)
            replay.iterate_anew(trainer)
            replay.skip(trainer, before)
        self._in_batch = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed the reading of the epoch's data."""
        self._at_start = True
        iterated = replay.is_iterated(trainer)
        if self._made_anew or not iterated:
            self._note_loaders(trainer)
            self._seed_reading(trainer)
        if self._made_anew and iterated:
            replay.iterate_anew(trainer)
        self._made_anew = False

    def _before_loaders(self, trainer: L.Trainer) -> None:
        self._made_anew = True
        self._seed_reading(trainer)

    def _seed_reading(self, trainer: L.Trainer) -> None:
        self._stream.seed(self._seed, replay.epoch(trainer), _Phase.READING)

    def _note_loaders(self, trainer: L.Trainer) -> None:
        self._generators = self._reading_states(trainer)
        self._loaders.before_epoch(trainer)

    @staticmethod
    def _reading_states(trainer: L.Trainer) -> list[Any]:
        return own_generators.states(replay.reading_generators(trainer))

    def _before_batch(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Seed the epoch, or go on with it; keep the states."""
        if self._at_start or not self._own:
            self._find_own(trainer, module)
        self._own_states = _states(self._own)
        for callback in _last_checkpoints(trainer):
            callback.before_read(trainer, module)
        if self._pending is not None:
            restore(self._pending)
            self._pending = None
        if self._at_start:
            self._at_start = False
            seed_all(self._seed, replay.epoch(trainer), _Phase.TRAINING)
        self._loaders.before_batch(trainer)
        self._read = self._stream.capture() if replay.keeps_its_place(trainer) else None
        self._in_batch = True

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """The next batch is not read yet."""
        self._loaders.after_batch(trainer)
        self._in_batch = False

    def _before_validation(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Put back what a validation is read with, whose loaders may have been made just now."""
        if self._pending_own or not self._own.get("validation"):
            self._find_own(trainer, module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed a validation."""
        if trainer.state.fn == TrainerFn.FITTING:
            seed_all(self._seed, trainer.global_step, _Phase.VALIDATION)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed what is left of the epoch."""
        # Workers that persist are started, which draws, by the first validation of a process.
        if trainer.state.fn == TrainerFn.FITTING:
            seed_all(self._seed, trainer.fit_loop.total_batch_idx + 1, _Phase.VALIDATED)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """No batch follows."""
        self._is_over = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed what follows, such as calibration: a resumed run may have trained nothing."""
        state, self._restored = self._restored, None
        if state is not None and _is_own(trainer):
            self._pending_own = dict(state.get("own", {}))
            self._find_own(trainer, pl_module)
        seed_all(self._seed, 0, _Phase.AFTER)

    def _find_own(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Look what generators there are now, and put those back that are."""
        self._own = replay.all_generators(trainer, module)
        for name, states in list(self._pending_own.items()):
            generators = self._own.get(name, [])
            if name == "validation" and not generators:
                continue  # until its loaders are there
            del self._pending_own[name]
            try:
                is_known = own_generators.set_states(generators, states)
            except Exception as error:  # whatever each library raises
                raise UserError(
                    f"{trainer.ckpt_path} is damaged: random generators of the {name} cannot stand"
                    f" where it says: {error}"
                ) from error
            if not is_known:
                warnings.warn(
                    f"random generators of the {name} draw what they draw in a new run: the"
                    f" checkpoint knows {len(states)} of them and there are {len(generators)}",
                    stacklevel=2,
                )


def _states(generators: dict[str, list[Generator]]) -> dict[str, list[Any]]:
    return {name: own_generators.states(some) for name, some in generators.items() if some}


def _last_checkpoints(trainer: L.Trainer) -> list[LastCheckpoint]:
    callbacks: list[L.Callback] = getattr(trainer, "callbacks", [])
    return [callback for callback in callbacks if isinstance(callback, LastCheckpoint)]


def _is_own(trainer: L.Trainer) -> bool:
    """Whether the fit goes on with a run, rather than starting from another's checkpoint."""
    return all(callback.is_own for callback in _last_checkpoints(trainer))
