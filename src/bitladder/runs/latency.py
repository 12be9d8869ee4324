"""How long a compiled model takes to answer."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

BATCHES = (1, 32)
WARM_UP_CALLS = 10
SECONDS = 0.6
MOST_CALLS = 500


def latencies_ms(
    runs: dict[str, Callable[..., Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Median time of a call, in milliseconds, of several models on the same inputs.

    The models take turns, so that a change of the machine's speed meets them all.

    Args:
        runs: The models by name.
        args: Example arguments; dimension 0 of every tensor is the batch and is cut or repeated.
        kwargs: Example keyword arguments, likewise.

    Returns:
        By model and then by ``batch_1`` and ``batch_32``.
    """
    figures: dict[str, dict[str, float]] = {name: {} for name in runs}
    for size in BATCHES:
        resize = partial(_of_size, size=size)
        sized_args, sized_kwargs = pytree.tree_map(resize, (args, kwargs))
        times: dict[str, list[float]] = {name: [] for name in runs}
        with torch.inference_mode():
            for run in runs.values():
                for _ in range(WARM_UP_CALLS):
                    run(*sized_args, **sized_kwargs)
            end = time.perf_counter() + SECONDS * len(runs)
            for _ in range(MOST_CALLS):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run(*sized_args, **sized_kwargs)
                    times[name].append(time.perf_counter() - start)
                if time.perf_counter() > end:
                    break
        for name in runs:
            figures[name][f"batch_{size}"] = 1e3 * statistics.median(times[name])
    return figures


def _of_size(x: Any, size: int) -> Any:
    """A tensor's first ``size`` samples, repeated where it has fewer."""
    if not isinstance(x, Tensor) or x.dim() == 0:
        return x
    return x[torch.arange(size) % x.shape[0]].contiguous()
