"""Several processes that train one model: what each learns from its share of the data, all know."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Item = TypeVar("Item")


def rank_and_size() -> tuple[int, int]:
    """This process's rank and how many there are; 0 and 1 without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(x: Tensor) -> list[Tensor]:
    """The tensor of every rank, in the order of the ranks.

    Every rank must call this, as often and in the same order.

    Args:
        x: Of any length, shape ``[n]``, which may differ between the ranks; of one dtype.

    Returns:
        A tensor a rank, shape ``[n of that rank]``, on the device of ``x``: the same numbers on
        every rank, to the bit.
    """
    # NCCL moves what is on a GPU alone.
    device = torch.device("cuda") if dist.get_backend() == "nccl" else x.device
    size = torch.tensor([x.numel()], device=device)
    sizes = [torch.empty_like(size) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, size)
    lengths = [int(length) for length in torch.cat(sizes).tolist()]
    padded = torch.zeros(max(lengths), dtype=x.dtype, device=device)
    padded[: x.numel()] = x
    shares = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(shares, padded)
    return [share[:n].to(x.device) for share, n in zip(shares, lengths, strict=True)]


def share(items: Iterable[Item], count: int, *, split: bool) -> Iterator[Item]:
    """This rank's part of the first ``count`` items; all of them without a process group.

    Every rank gets equally many, so that all can pass them through a model that gathers: ``count``
    is rounded up to whole rounds of one item a rank, and a round that is not full is left out.

    Args:
        items: The same on every rank if ``split``, else this rank's own already.
        count: How many to take, on all ranks together.
        split: Whether the ranks take turns.
    """
    rank, size = rank_and_size()
    rounds = -(-count // size)
    mine = islice(items, rank, rounds * size, size) if split else islice(items, rounds)
    if size == 1:
        yield from mine
        return
    while True:
        taken = list(islice(mine, 1))
        if not all(bool(other) for other in gather(torch.tensor([float(len(taken))]))):
            return
        yield from taken


def average_batch_norms(model: nn.Module) -> None:
    """Give every rank the BatchNorm statistics of all ranks' data; no effect on one process.

    DDP itself keeps those of rank 0 and drops the others'. To be called after every training step,
    on every rank. The mean of the ranks' means, and of their variances, lacks how far the means lie
    apart. All ranks began the step with the same running statistics, so that distance is what one
    update with ``momentum`` left of it: with it the result is what one process has after an update
    with the joined batch, but for the correction of the variance by ``n / (n - 1)``.

    Args:
        model: Holds BatchNorms, of which those that train are changed.
    """
    if rank_and_size()[1] == 1:
        return
    norms: list[Any] = [module for module in model.modules() if _learns(module)]
    if not norms:
        return
    own = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    ranks = torch.stack(gather(torch.cat([buffer.float() for buffer in own])))
    parts = iter(ranks.split([buffer.numel() for buffer in own], dim=1))
    for norm in norms:
        means, variances = next(parts), next(parts)
        # Without a momentum BatchNorm keeps the plain average of all batches.
        newest = norm.momentum or 1.0 / max(1, int(norm.num_batches_tracked))
        norm.running_mean.copy_(means.mean(0))
        norm.running_var.copy_(variances.mean(0) + means.var(0, correction=0) / newest)


def _learns(module: nn.Module) -> bool:
    """Whether it is a BatchNorm that updates its running statistics, alone on its rank."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return isinstance(module, kinds) and module.training and module.track_running_stats
