"""Random numbers that go on where a checkpoint left them."""

import random
from typing import Any

import lightning as L
import numpy as np
import torch

from bitladder.callbacks import replay
from bitladder.callbacks.ranks import of_every_rank, own_part

State = dict[str, Any]


class RandomState(L.Callback):
    """Random numbers and batches after a resume are those of the run that was never interrupted.

    Lightning saves no generator's state, so dropout, augmentation and shuffling would differ. Every
    epoch draws from seeds made of the run's seed and the epoch: what is drawn between two epochs
    (by a validation, a data loader, a check of sanity) then has no influence. For a checkpoint from
    the middle of an epoch two states are kept: that before the epoch's first batch was read, with
    which the batches up to the checkpoint are read again, and dropped; and that before the next
    batch was read, with which training goes on. Each of several processes goes on with its own.

    Exact are orders and transforms that draw from Python's, NumPy's or PyTorch's global generators
    or from seeds of their own, without workers as with workers that live for an epoch; loaders that
    keep their place themselves (``state_dict``) are left to it. Not exact: transforms that draw in
    ``persistent_workers``, whose generators are as old as the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seed: int | None = None
        self._ranks: list[State] = []
        self._restored: State | None = None
        self._epoch_start: State | None = None
        self._before_read: State | None = None
        # Of the iterator over the epoch's data: is it older than the epoch (the first of a fit is),
        # and was what it drew put back.
        self._iterated = False
        self._put_back = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the seed that PyTorch was given, unless a checkpoint brought one."""
        if self._ranks:
            self._restored = own_part(trainer, self._ranks)
            self._ranks, self._seed = [], self._restored["seed"]
        if self._seed is None:
            self._seed = torch.initial_seed() % 2**63

    def state_dict(self) -> State:
        """The generators' states as tensors and plain containers, of this rank alone."""
        # A checkpoint may be written when the next batch has been read, and augmented, already.
        state = (self._before_read or _capture()) | {
            "seed": self._seed,
            "epoch_start": self._epoch_start,
            "put_back": self._put_back,
        }
        return {"ranks": [state]}

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the states of every rank."""
        (own,) = checkpoint["callbacks"][self.state_key]["ranks"]
        checkpoint["callbacks"][self.state_key] = {"ranks": of_every_rank(trainer, own)}

    def load_state_dict(self, state_dict: State) -> None:
        """Keep the states until training starts."""
        self._ranks = state_dict["ranks"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go back to the batch that the checkpoint stands before."""
        state, self._restored = self._restored, None
        self._iterated = True
        if state is None:
            self._epoch_start = self._before_read = _capture()
            self._put_back = True
            if replay.has_workers(trainer):
                replay.iterate_anew(trainer)
                _restore(self._epoch_start)
            return
        before = replay.batches_before(trainer)
        now = {key: state[key] for key in ("python", "numpy", "torch", "cuda")}
        self._before_read = now
        self._epoch_start = start = (before and state.get("epoch_start")) or now
        self._put_back = before > 0 and state.get("put_back", False)
        if replay.keeps_its_place(trainer):
            _restore(now)
            return
        _restore(start)
        replay.iterate_anew(trainer)
        if self._put_back:
            _restore(start)
        if before:
            replay.skip(trainer, before)
            _restore(now)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the state with which the epoch's data are iterated."""
        self._before_read = _capture()
        if not self._iterated:
            self._epoch_start = self._before_read

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the epoch."""
        if batch_idx == 0:
            assert self._seed is not None
            sequence = np.random.SeedSequence([self._seed, trainer.current_epoch])
            (seed,) = sequence.generate_state(1).tolist()
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the state before the next batch is read."""
        self._before_read = _capture()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the state before the next batch is read."""
        if not trainer.sanity_checking:
            self._before_read = _capture()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From the next epoch on Lightning makes the iterator when it has started."""
        self._iterated = self._put_back = False


def _capture() -> State:
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.array(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore(state: State) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
