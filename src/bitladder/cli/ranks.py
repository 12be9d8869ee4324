"""One command, several processes: one run directory, one voice.

Lightning starts the processes of the other ranks itself: each executes the command again.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only

from bitladder.errors import UserError
from bitladder.runs import RunDirectory
from bitladder.runs.lock import locked

HANDED_OVER = "BITLADDER_RUN_DIRECTORY"
"""The variable through which the processes that rank 0 starts learn its run directory."""


def rank() -> int:
    """Which of the processes this is; known before they have found each other."""
    return getattr(rank_zero_only, "rank", 0)


@contextmanager
def shared_directory(runs: Path, name: str) -> Iterator[RunDirectory]:
    """The run directory: a fresh one on rank 0, that of rank 0 on the others.

    Raises:
        UserError: As :meth:`RunDirectory.create` does; on another rank, if it was not started by
            rank 0.
    """
    if rank() > 0:
        if HANDED_OVER not in os.environ:
            raise UserError(
                f"rank {rank()} was not started by rank 0, so it knows no run directory: start one"
                " process, which starts trainer.devices of them itself"
            )
        yield RunDirectory(Path(os.environ[HANDED_OVER]))
        return
    directory = RunDirectory.create(runs, name)
    os.environ[HANDED_OVER] = str(directory.path.absolute())
    try:
        yield directory
    finally:
        del os.environ[HANDED_OVER]


def lock(directory: RunDirectory) -> AbstractContextManager[None]:
    """Hold the run directory, for all ranks.

    Raises:
        UserError: As :func:`bitladder.runs.lock.locked` does.
    """
    return locked(directory) if rank() == 0 else nullcontext()


def lost_another(error: RuntimeError) -> bool:
    """Whether a collective failed because another process has ended."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def part() -> None:
    """End the process group, together: its threads may abort a process that ends before them."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
