"""Orders that depend on nothing but their seed."""

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


def seeded_generator(*key: int | str) -> torch.Generator:
    """A CPU generator for a key.

    The key is hashed because torch's CPU generator looks at the low 32 bits of a seed alone, and
    because sums such as ``seed + epoch`` would give two runs the same order.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


class EpochSampler(Sampler[int]):
    """A shuffled order that depends on the seed and the epoch alone.

    The Trainer calls :meth:`set_epoch`, so a run resumed at the start of an epoch sees the batches
    that the uninterrupted run saw, whatever the global generators did in between.

    Args:
        samples: Number of samples.
        seed: The run's seed.
    """

    def __init__(self, samples: int, seed: int) -> None:
        self.samples = samples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        generator = seeded_generator("epoch", self.seed, self.epoch)
        return iter(torch.randperm(self.samples, generator=generator).tolist())
