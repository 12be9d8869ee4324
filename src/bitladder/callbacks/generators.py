"""Python's, NumPy's and PyTorch's generators, and the states of the global ones."""

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
"""Of whatever library, global or somebody's own."""


class States(NamedTuple):
    """What is drawn next, as each library says it."""

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: Tensor
    cuda: list[Tensor]
    """Of each device; empty where CUDA is not in use."""


def capture() -> States:
    """The states of now."""
    numpy: tuple[Any, ...] = np.random.get_state(legacy=True)  # type: ignore[assignment]
    return States(
        random.getstate(),
        numpy,
        torch.get_rng_state(),
        torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    )


def capture_but_numpy(states: States) -> States:
    """The states of now, NumPy's being that of others."""
    return States(
        random.getstate(),
        states.numpy,
        torch.get_rng_state(),
        torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    )


def restore(states: States) -> None:
    """Draw from here on what was drawn after :func:`capture`."""
    np.random.set_state(states.numpy)
    restore_but_numpy(states)


def restore_but_numpy(states: States) -> None:
    """The same of all but NumPy's."""
    random.setstate(states.python)
    torch.set_rng_state(states.torch)
    if states.cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states.cuda)


def seed_all(*numbers: int) -> None:
    """Seed all of them with what the numbers, in this order, give."""
    (seed,) = np.random.SeedSequence(numbers).generate_state(1).tolist()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_plain(states: States) -> dict[str, Any]:
    """Tensors and plain containers, for a checkpoint."""
    version, internal, gauss = states.python
    name, keys, position, has_gauss, cached = states.numpy
    return {
        "python": [version, list(internal), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.array(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": states.torch,
        "cuda": states.cuda,
    }


def from_plain(plain: dict[str, Any]) -> States:
    """What :func:`to_plain` was given."""
    version, internal, gauss = plain["python"]
    name, keys, position, has_gauss, cached = plain["numpy"]
    return States(
        (version, tuple(internal), gauss),
        (name, keys.numpy().astype(np.uint32), position, has_gauss, cached),
        plain["torch"],
        plain["cuda"],
    )
