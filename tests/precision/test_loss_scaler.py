"""The loss scaler is torch's, counted, stopped and resumed."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bitladder.errors import RunError, UserError
from bitladder.precision.loss_scaler import LossScaler


def make_scaler(init_scale: float = 1024.0, min_scale: float = 1e-30) -> LossScaler:
    return LossScaler(
        "cpu",
        init_scale=init_scale,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=3,
        min_scale=min_scale,
    )


def make_weight() -> tuple[nn.Parameter, torch.optim.SGD]:
    weight = nn.Parameter(torch.ones(2))
    return weight, torch.optim.SGD([weight], lr=1.0)


def backward(scaler: LossScaler, weight: nn.Parameter, slope: float = 0.25) -> None:
    scaler.scale(slope * weight.sum()).backward()


@given(overflows=st.lists(st.booleans(), max_size=40))
def test_counts_and_scale_are_those_of_torch(overflows: list[bool]) -> None:
    ours = make_scaler()
    theirs = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    states = []
    for scaler in (ours, theirs):
        weight, optimizer = make_weight()
        for overflow in overflows:
            optimizer.zero_grad()
            scaler.scale((float("inf") if overflow else 0.25) * weight.sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        states.append((weight.tolist(), scaler.get_scale(), scaler.state_dict()["_growth_tracker"]))
    assert states[0] == states[1]
    assert ours.skipped_steps == sum(overflows)
    assert ours.taken_steps == len(overflows) - sum(overflows)
    assert ours.last_step_skipped == bool(overflows and overflows[-1])


def test_gradients_are_unscaled_once_between_two_updates() -> None:
    scaler, (weight, optimizer) = make_scaler(), make_weight()
    backward(scaler, weight)
    scaler.unscale_(optimizer)
    scaler.unscale_(optimizer)
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.25, 0.25]
    scaler.step(optimizer)
    assert weight.tolist() == [0.75, 0.75]


def test_the_run_stops_below_min_scale_and_says_why() -> None:
    scaler, (weight, optimizer) = make_scaler(init_scale=4.0, min_scale=1.0), make_weight()
    for _ in range(2):
        backward(scaler, weight, float("nan"))
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 1.0
    backward(scaler, weight, float("nan"))
    scaler.step(optimizer)
    with pytest.raises(RunError, match=r"fell to 0\.5, below min_scale=1, with 3 .* steps skipped"):
        scaler.update()


@pytest.mark.parametrize("slope", [float("inf"), 0.25])
def test_an_optimizer_that_waits_keeps_its_gradients_over_an_update(slope: float) -> None:
    scaler, (first, one), (second, two) = make_scaler(), make_weight(), make_weight()
    before = scaler.get_scale()
    for _ in range(3):
        first.grad = None
        backward(scaler, second)
        backward(scaler, first, slope)
        scaler.step(one)
        scaler.finish_steps([one, two])
    assert scaler.get_scale() != before
    scaler.step(two)
    assert second.tolist() == [0.25, 0.25]


def test_nothing_happens_between_steps() -> None:
    scaler, (weight, optimizer) = make_scaler(), make_weight()
    backward(scaler, weight)
    scaler.finish_steps([optimizer])
    assert scaler.state_dict()["_growth_tracker"] == 0


def test_gradients_unscaled_for_nothing_are_refused() -> None:
    scaler, (first, one), (second, two) = make_scaler(), make_weight(), make_weight()
    backward(scaler, first)
    backward(scaler, second)
    scaler.unscale_(two)
    scaler.step(one)
    with pytest.raises(UserError, match=r"clip only right before optimizer\.step\(\)"):
        scaler.finish_steps([one, two])


@pytest.mark.parametrize("source", [make_scaler, lambda: torch.amp.GradScaler("cpu", 2.0**10)])
def test_state_resumes_ours_or_torchs_and_settings_stay(
    source: Callable[[], torch.amp.GradScaler],
) -> None:
    earlier, (weight, optimizer) = source(), make_weight()
    for slope in (float("inf"), 0.25, 0.25):
        optimizer.zero_grad()
        earlier.scale(slope * weight.sum()).backward()
        earlier.step(optimizer)
        earlier.update()
    later = make_scaler(init_scale=1.0)
    later.load_state_dict(earlier.state_dict())
    state = later.state_dict()
    assert (state["scale"], state["_growth_tracker"], state["growth_interval"]) == (512.0, 2, 3)
    assert later.skipped_steps == (1 if isinstance(earlier, LossScaler) else 0)
