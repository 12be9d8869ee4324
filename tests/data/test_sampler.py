import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.data.sampler import EpochSampler, seeded_generator


def order(samples: int, seed: int, epoch: int) -> list[int]:
    sampler = EpochSampler(samples, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@given(samples=st.integers(0, 50), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**6))
def test_an_order_holds_every_sample_once(samples: int, seed: int, epoch: int) -> None:
    assert sorted(order(samples, seed, epoch)) == list(range(samples))
    assert len(EpochSampler(samples, seed)) == samples


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(0)
    first = order(100, seed=1, epoch=2)
    torch.manual_seed(9)
    torch.rand(7)
    assert order(100, seed=1, epoch=2) == first
    others = [order(100, 1, 3), order(100, 2, 2), order(100, 2, 1), order(100, 3, 0)]
    assert all(other != first for other in others)


def test_reading_an_order_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    order(10, seed=1, epoch=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_keys_that_differ_above_32_bits_give_other_numbers() -> None:
    first, second = (torch.rand(4, generator=seeded_generator(key)) for key in (1, 1 + 2**32))
    assert not torch.equal(first, second)
