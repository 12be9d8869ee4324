import time

import torch
from torch import Tensor

from bitladder.runs.latency import latencies_ms


def test_figures_are_milliseconds_of_batches_of_one_and_thirty_two() -> None:
    sizes: list[int] = []

    def slow(x: Tensor, *, scale: Tensor) -> None:
        sizes.append(len(x))
        assert scale.dim() == 0
        time.sleep(0.005)

    figures = latencies_ms(
        {"slow": slow, "fast": lambda x, scale: None},
        (torch.ones(5, 2),),
        {"scale": torch.ones(())},
    )
    assert set(sizes) == {1, 32}
    assert figures["slow"].keys() == {"batch_1", "batch_32"}
    assert all(5.0 <= value < 50.0 for value in figures["slow"].values())
    assert all(0.0 < value < 1.0 for value in figures["fast"].values())


def test_a_batch_is_repeated_as_it_is() -> None:
    seen: list[Tensor] = []
    latencies_ms({"model": seen.append}, (torch.arange(3.0),), {})
    assert torch.equal(seen[-1], torch.arange(32) % 3.0)
