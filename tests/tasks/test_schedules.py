import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.errors import UserError
from bitladder.tasks import cosine_with_warmup


def rates(total_steps: int, **arguments: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = cosine_with_warmup(optimizer, total_steps, **arguments)
    seen = []
    for _ in range(total_steps):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


def test_climbs_in_a_line_and_falls_as_a_cosine() -> None:
    seen = rates(13, warmup=4 / 13)
    assert seen[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert seen[4] == pytest.approx(2.0)
    assert seen[8] == pytest.approx(1.0)
    assert seen[-1] == pytest.approx(0.0, abs=1e-12)


def test_ends_at_the_final_fraction() -> None:
    assert rates(10, final=0.1)[-1] == pytest.approx(0.2)


@given(
    total_steps=st.integers(1, 40),
    warmup=st.floats(0.0, 1.0, exclude_max=True),
    final=st.floats(0.0, 1.0),
)
def test_stays_between_zero_and_the_peak(total_steps: int, warmup: float, final: float) -> None:
    seen = rates(total_steps, warmup=warmup, final=final)
    assert all(0.0 <= rate <= 2.0 + 1e-12 for rate in seen)
    peak = seen.index(max(seen))
    assert seen[: peak + 1] == sorted(seen[: peak + 1])
    assert seen[peak:] == sorted(seen[peak:], reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup": 1.0}, r"scheduler\.warmup=1\.0: write a fraction of the steps"),
        ({"final": -0.5}, r"scheduler\.final=-0\.5: write a fraction of the learning rate"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rates(10, **arguments)
