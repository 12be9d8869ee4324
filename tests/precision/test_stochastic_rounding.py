"""Stochastic rounding is unbiased, repeats, and serves any optimizer."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bitladder.errors import UserError
from bitladder.precision.stochastic_rounding import StochasticRounding, round_stochastically

ALL_NOISE = torch.arange(1 << 16, dtype=torch.int32)
OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adamw": partial(torch.optim.AdamW, foreach=True),
    "fused": partial(torch.optim.AdamW, fused=True),
    "adagrad": torch.optim.Adagrad,
}


@given(st.floats(-(2.0**127), 2.0**127, width=32))
def test_the_mean_over_all_noise_is_the_value_exactly(value: float) -> None:
    x = torch.full(ALL_NOISE.shape, value)
    rounded = round_stochastically(x, ALL_NOISE)
    assert rounded.dtype == torch.bfloat16
    # Sums of 2**16 float32 of 8 bits each are exact in float64; so is the product.
    assert rounded.double().sum().item() == x[0].item() * 2**16
    neighbours = rounded.unique()
    assert len(neighbours) <= 2
    if x[0] == x[0].bfloat16():
        assert neighbours.tolist() == [value]


@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0x7F800001, 0x7FC00000])
def test_nan_stays_nan_and_infinity_infinity(bits: int) -> None:
    nan = torch.full(ALL_NOISE.shape, bits, dtype=torch.int32).view(torch.float32)
    assert round_stochastically(nan, ALL_NOISE).isnan().all()
    for value in (float("inf"), float("-inf")):
        rounded = round_stochastically(torch.full(ALL_NOISE.shape, value), ALL_NOISE)
        assert (rounded == value).all()


def test_the_largest_values_may_become_infinite_but_never_change_sign() -> None:
    largest = torch.full(ALL_NOISE.shape, torch.finfo(torch.float32).max)
    assert (round_stochastically(largest, ALL_NOISE) > 3e38).all()
    assert (round_stochastically(-largest, ALL_NOISE) < -3e38).all()


def make(optimizer: Callable[..., Any], seed: int = 1) -> tuple[nn.Linear, Any]:
    """A bfloat16 layer with an optimizer that rounds stochastically."""
    torch.manual_seed(0)
    net = nn.Linear(64, 64).bfloat16()
    made = optimizer(net.parameters(), lr=1e-4)
    StochasticRounding(torch.device("cpu"), seed).attach(made)
    return net, made


def train(net: nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator).bfloat16()
        optimizer.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_step_is_that_of_float32_rounded(optimizer: Callable[..., Any]) -> None:
    net, made = make(optimizer)
    wide = copy.deepcopy(net).float()
    reference = optimizer(wide.parameters(), lr=1e-4)
    train(net, made, range(1))
    for parameter, reduced in zip(wide.parameters(), net.parameters(), strict=True):
        assert reduced.grad is not None
        parameter.grad = reduced.grad.float()
    reference.step()
    for parameter, reduced in zip(wide.parameters(), net.parameters(), strict=True):
        last_bit = 2.0 ** (parameter.abs().log2().floor() - 7)
        assert reduced.dtype == torch.bfloat16
        assert ((reduced.float() - parameter).abs() < last_bit).all()
        assert not torch.equal(reduced, parameter.bfloat16())


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_resuming_continues_to_the_bit(optimizer: Callable[..., Any]) -> None:
    straight, made = make(optimizer)
    train(straight, made, range(20))

    net, first = make(optimizer)
    train(net, first, range(10))
    resumed = copy.deepcopy(net)
    second = optimizer(resumed.parameters(), lr=1e-4)
    rounding = StochasticRounding(torch.device("cpu"), seed=99)
    rounding.attach(second)
    rounding.load_state_dict({"seed": 1, "steps": 10})
    second.load_state_dict(first.state_dict())
    torch.randn(7)  # other random numbers change nothing
    train(resumed, second, range(10, 20))
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    for state in second.state.values():
        assert {x.dtype for x in state.values() if isinstance(x, torch.Tensor)} <= {torch.float32}
    assert set(second.state) <= set(resumed.parameters())


def test_the_seed_decides() -> None:
    (one, first), (other, second) = make(torch.optim.SGD, 1), make(torch.optim.SGD, 2)
    train(one, first, range(1))
    train(other, second, range(1))
    assert not torch.equal(one.weight, other.weight)


def test_float32_parameters_and_those_without_gradient_are_left_alone() -> None:
    wide, frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([wide, frozen], lr=1e-4)
    StochasticRounding(torch.device("cpu"), 1).attach(optimizer)
    wide.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(wide, torch.full((3,), 1 - 1e-4))
    assert torch.equal(frozen, torch.ones(3, dtype=torch.bfloat16))
    assert optimizer.param_groups[0]["params"] == [wide, frozen]


def test_detaching_ends_it() -> None:
    net = nn.Linear(4, 4).bfloat16()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    StochasticRounding(torch.device("cpu"), 1).attach(optimizer)()
    train(net, optimizer, range(1))
    assert optimizer.state[net.weight]["momentum_buffer"].dtype == torch.bfloat16


def test_a_closure_is_refused() -> None:
    _, optimizer = make(torch.optim.SGD)
    for step in (optimizer.step, lambda closure: optimizer.step(closure=closure)):
        with pytest.raises(UserError, match=r"call optimizer\.step\(\) without"):
            step(lambda: torch.zeros(1))
