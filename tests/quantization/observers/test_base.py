from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import (
    ACTIVATION,
    WEIGHT,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    Observer,
    Recipe,
    Scheme,
    calibrate,
    convert,
    prepare,
    quantized_layers,
)
from bitladder.quantization.fake_quantize import FakeQuantize

OBSERVERS = [MinMaxObserver, MovingAverageObserver, HistogramObserver]


class HalfObserver(Observer):
    """A user's own observer: half of the widest range."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.tensor(1.0), persistent=False)
        self.register_buffer("high", torch.tensor(-1.0), persistent=False)

    def observe(self, x: Tensor) -> None:
        self.low = torch.minimum(self.low, x.min() / 2)
        self.high = torch.maximum(self.high, x.max() / 2)

    def range(self) -> tuple[Tensor, Tensor]:
        return self.low, self.high


@pytest.mark.parametrize("observer", OBSERVERS)
def test_before_any_data_the_range_is_empty(observer: Callable[[Scheme], Observer]) -> None:
    empty = observer(ACTIVATION)
    minimum, maximum = empty.range()
    assert minimum > maximum
    assert not empty.saw_data


@pytest.mark.parametrize("observer", OBSERVERS)
def test_state_goes_through_a_fresh_observer(observer: Callable[[Scheme], Observer]) -> None:
    torch.manual_seed(0)
    first, second = observer(ACTIVATION), observer(ACTIVATION)
    first(torch.randn(100))
    first(torch.randn(100) * 2)
    second.load_state(first.state())
    assert torch.equal(torch.stack(first.range()), torch.stack(second.range()))
    x = torch.randn(100) * 3
    first(x)
    second(x)
    assert torch.equal(torch.stack(first.range()), torch.stack(second.range()))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_nothing_of_an_observer_is_in_the_state_dict(
    observer: Callable[[Scheme], Observer],
) -> None:
    assert not observer(ACTIVATION).state_dict()


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_value_is_never_forgotten(
    observer: Callable[[Scheme], Observer], bad: float
) -> None:
    quantizer = FakeQuantize(ACTIVATION, observer(ACTIVATION))
    quantizer.calibrating = True
    for batch in (torch.ones(3), torch.tensor([0.0, bad, 1.0]), torch.ones(3), torch.zeros(3)):
        quantizer(batch)
    with pytest.raises(RunError, match="the observer of here saw NaN or infinity"):
        quantizer.require_range("here")


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_range_stays_fp32_when_the_model_goes_to_bf16(
    observer: Callable[[Scheme], Observer],
) -> None:
    seen = observer(ACTIVATION)
    seen(torch.tensor([-0.1, 1.0 + 2**-20]))
    before = seen.state()
    seen.to(torch.bfloat16)
    after = seen.state()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert after["minimum"].dtype == torch.float32


@pytest.mark.parametrize("observer", [MinMaxObserver, MovingAverageObserver])
def test_with_a_channel_axis_every_channel_has_its_own_range(
    observer: Callable[[Scheme], Observer],
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 3, 2, 2)
    per_channel = observer(WEIGHT)
    per_channel(weight)
    minimum, maximum = per_channel.range()
    assert torch.equal(minimum, weight.amin((1, 2, 3)))
    assert torch.equal(maximum, weight.amax((1, 2, 3)))


def test_a_users_own_observer_works_through_the_recipe() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 4)), torch.randn(32, 6)
    prepare(model, Recipe(method="ptq", observer=HalfObserver))
    calibrate(model, [x])
    quantizer = quantized_layers(model)["0"].input_quantize
    assert isinstance(quantizer, FakeQuantize)
    expected = (x.max() - x.min()) / 2 / 255
    assert quantizer.scale.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(convert(model)(x), model(x))


def test_a_users_own_empty_range_is_noticed_too() -> None:
    quantizer = FakeQuantize(ACTIVATION, HalfObserver(ACTIVATION))
    with pytest.raises(RunError, match="never saw data"):
        quantizer.require_range("here")
