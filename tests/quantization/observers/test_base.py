from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitladder.errors import RunError, UserError
from bitladder.quantization import (
    ACTIVATION,
    WEIGHT,
    EntropyObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    Recipe,
    Scheme,
    calibrate,
    convert,
    prepare,
    quantized_layers,
)
from bitladder.quantization.fake_quantize import FakeQuantize

PER_CHANNEL = [MinMaxObserver, MovingAverageObserver, MSEObserver, PercentileObserver]
PER_TENSOR = [HistogramObserver, EntropyObserver]
OBSERVERS = [*PER_CHANNEL, *PER_TENSOR]


BATCHES = st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8), min_size=1, max_size=6
)


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


@pytest.mark.parametrize("observer", PER_CHANNEL)
def test_with_a_channel_axis_every_channel_has_its_own_range(
    observer: Callable[[Scheme], Observer],
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 3, 2, 2) * torch.logspace(-2, 2, 5).reshape(5, 1, 1, 1)
    together = observer(WEIGHT)
    together(weight)
    minimum, maximum = together.range()
    assert minimum.shape == maximum.shape == (5,)
    for channel in range(5):
        alone = observer(WEIGHT)
        alone(weight[channel : channel + 1])
        assert alone.range() == (minimum[channel], maximum[channel])


@pytest.mark.parametrize("observer", PER_CHANNEL)
def test_a_channel_of_zeros_beside_others_keeps_a_range(
    observer: Callable[[Scheme], Observer],
) -> None:
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    weight[1] = 0.0
    quantizer = FakeQuantize(WEIGHT, observer(WEIGHT), memoryless=True)
    quantizer.calibrating = True
    quantizer(weight)
    quantizer.require_range("here")
    quantizer.quantizing = True
    assert torch.equal(quantizer(weight)[1], weight[1])
    torch.testing.assert_close(quantizer(weight), weight, atol=0.1, rtol=0.0)


@pytest.mark.parametrize("observer", PER_TENSOR)
def test_one_that_cannot_do_channels_is_refused_before_a_model_is_touched(
    observer: Callable[[Scheme], Observer],
) -> None:
    expected = r"quantization\.weight_observer: .* not one a channel: for weights write MinMaxObs"
    with pytest.raises(UserError, match=expected):
        Recipe(method="ptq", weight_observer=observer)


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-40, 1e30])
def test_a_constant_is_its_own_range(observer: Callable[[Scheme], Observer], value: float) -> None:
    constant, x = observer(ACTIVATION), torch.full((5,), value)
    for _ in range(3):
        constant(x)
    assert constant.range() == (x[0], x[0])


@pytest.mark.parametrize("observer", OBSERVERS)
def test_an_empty_tensor_changes_nothing(observer: Callable[[Scheme], Observer]) -> None:
    seen = observer(ACTIVATION)
    seen(torch.empty(0, 4))
    assert not seen.saw_data
    seen(torch.tensor([-1.0, 2.0]))
    before = torch.stack(seen.range())
    seen(torch.empty(0, 4))
    assert torch.equal(before, torch.stack(seen.range()))


@pytest.mark.parametrize("observer", [*PER_TENSOR, MinMaxObserver, MSEObserver, PercentileObserver])
def test_a_range_grows_with_later_batches(observer: Callable[[Scheme], Observer]) -> None:
    generator = torch.Generator().manual_seed(0)
    seen, last = observer(ACTIVATION), torch.randn(1000, generator=generator)
    seen(last[:10] * 1e-6)
    for _ in range(20):
        seen(last)
    minimum, maximum = seen.range()
    assert last.min() <= minimum < 0.6 * last.min()
    assert 0.6 * last.max() < maximum <= last.max()


@pytest.mark.parametrize("observer", OBSERVERS)
@given(batches=BATCHES)
@settings(max_examples=30)
def test_a_range_never_exceeds_what_was_seen_and_zero(
    observer: Callable[[Scheme], Observer], batches: list[list[float]]
) -> None:
    seen, widest = observer(ACTIVATION), MinMaxObserver(ACTIVATION)
    for batch in batches:
        seen(torch.tensor(batch))
        widest(torch.tensor(batch))
    minimum, maximum = seen.range()
    least, greatest = widest.range()
    slack = 1e-5 * float(torch.maximum(-least, greatest).abs())  # of the moving average
    assert least.clamp(max=0.0) - slack <= minimum <= maximum
    assert maximum <= greatest.clamp(min=0.0) + slack


@pytest.mark.gpu
@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_gpu_sees_what_the_cpu_sees(observer: Callable[[Scheme], Observer]) -> None:
    generator = torch.Generator().manual_seed(0)
    here, there = observer(ACTIVATION), observer(ACTIVATION).cuda()
    for power in range(4):
        x = torch.randn(1000, generator=generator) * 2**power
        here(x)
        there(x.cuda())
    for name, buffer in here.state().items():
        torch.testing.assert_close(there.state()[name], buffer, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(torch.stack(there.range()).cpu(), torch.stack(here.range()))


@pytest.mark.gpu
@pytest.mark.parametrize("observer", PER_CHANNEL)
def test_a_gpu_finds_the_cpus_ranges_of_a_weight(observer: Callable[[Scheme], Observer]) -> None:
    weight = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    here, there = observer(WEIGHT), observer(WEIGHT).cuda()
    for memoryless in (here, there):
        memoryless.unseen()
    here(weight)
    there(weight.cuda())
    torch.testing.assert_close(torch.stack(there.range()).cpu(), torch.stack(here.range()))


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
