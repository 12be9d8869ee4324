"""Two processes without a Trainer: what one of them sees, both know."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bitladder.quantization import HistogramObserver, MinMaxObserver, MovingAverageObserver
from bitladder.quantization.observers import Observer
from bitladder.quantization.ranks import share
from bitladder.quantization.scheme import ACTIVATION

OBSERVERS = (MinMaxObserver, MovingAverageObserver, HistogramObserver)
PROGRAM = """
import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from bitladder.quantization import average_batch_norms
from bitladder.quantization.ranks import share
from bitladder.quantization.scheme import ACTIVATION
from tests.quantization.test_ranks import OBSERVERS, batches

rank, folder = int(sys.argv[1]), sys.argv[2]
limit = timedelta(seconds=60)
dist.init_process_group("gloo", f"file://{folder}/store", limit, world_size=2, rank=rank)
found = {"ranges": [], "buffers": [], "shares": []}
for make in OBSERVERS:
    observer = make(ACTIVATION)
    observer.joined = True
    for batch in batches():
        observer(batch.chunk(2)[rank])
    observer(torch.zeros((3, 0) if rank else (0, 4)))  # nothing on either rank
    observer(torch.zeros(0, 4) if rank else torch.full((2, 4), 30.0))  # something on one
    found["ranges"].append(observer.range())
norm = nn.BatchNorm1d(4)
for batch in batches():
    norm(batch.chunk(2)[rank])
    average_batch_norms(norm)
found["buffers"] = [norm.running_mean, norm.running_var]
found["shares"].append(list(share(range(9), 8, split=True)))
found["shares"].append(list(share(range(9), 9, split=True)))
found["shares"].append(list(share(range(2 + rank), 8, split=False)))
torch.save(found, f"{folder}/{rank}.pt")
dist.barrier()
os._exit(0)  # gloo's threads may abort an interpreter as it ends
"""


def batches() -> list[torch.Tensor]:
    """Batches of 64 of which the second half, that of rank 1, is ten times larger."""
    x = torch.randn(3, 64, 4, generator=torch.Generator().manual_seed(0))
    x[:, 32:] *= 10
    return list(x)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[torch.Tensor]]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(folder)],
            cwd=root,
            env={"PYTHONPATH": f"{root}:{root / 'src'}", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("index", range(len(OBSERVERS)))
def test_observers_of_two_ranks_keep_the_range_of_the_joined_data(ranks: list, index: int) -> None:
    alone: Observer = OBSERVERS[index](ACTIVATION)
    for batch in [*batches(), torch.full((2, 4), 30.0)]:
        alone(batch)
    (first, second) = (found["ranges"][index] for found in ranks)
    assert first == second == alone.range()


def test_batch_norms_of_two_ranks_keep_the_statistics_of_the_joined_data(ranks: list) -> None:
    norm = torch.nn.BatchNorm1d(4)
    for batch in batches():
        norm(batch)
    assert norm.running_mean is not None
    for found in ranks:
        mean, variance = found["buffers"]
        torch.testing.assert_close(mean, norm.running_mean)
        # Each rank divides by one less than its own 32 samples.
        torch.testing.assert_close(variance, norm.running_var, rtol=0.03, atol=0)
    assert torch.equal(*(found["buffers"][1] for found in ranks))


def test_batches_are_split_and_every_rank_gets_equally_many(ranks: list) -> None:
    first, second = (found["shares"] for found in ranks)
    assert (first[0], second[0]) == ([0, 2, 4, 6], [1, 3, 5, 7])
    assert (first[1], second[1]) == ([0, 2, 4, 6], [1, 3, 5, 7]), "a round that is not full"
    assert (first[2], second[2]) == ([0, 1], [0, 1])


def test_without_a_process_group_one_takes_all() -> None:
    assert list(share(range(9), 3, split=True)) == [0, 1, 2]
