"""Random numbers that go on where a checkpoint left them."""

import random
from typing import Any

import lightning as L
import numpy as np
import torch


class RandomState(L.Callback):
    """Random numbers after a resume are those of the run that was never interrupted.

    Lightning saves no generator's state, so dropout and augmentation would differ. Every epoch
    draws from seeds made of the run's seed and the epoch: what is drawn between two epochs (by a
    validation, a data loader, a check of sanity) then has no influence. For a checkpoint from the
    middle of an epoch the generators' states are kept, and put back at its next batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seed: int | None = None
        self._restored: dict[str, Any] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the seed that PyTorch was given, unless a checkpoint brought one."""
        if self._seed is None:
            self._seed = torch.initial_seed() % 2**63

    def state_dict(self) -> dict[str, Any]:
        """The generators' states as tensors and plain containers."""
        version, internal, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        return {
            "seed": self._seed,
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts."""
        self._seed = state_dict["seed"]
        self._restored = state_dict

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the epoch, or go on in the middle of it."""
        state, self._restored = self._restored, None
        if batch_idx == 0:
            assert self._seed is not None
            sequence = np.random.SeedSequence([self._seed, trainer.current_epoch])
            (seed,) = sequence.generate_state(1).tolist()
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
        elif state is not None:
            _restore(state)


def _restore(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
