import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitladder.quantization import ACTIVATION, WEIGHT, MinMaxObserver, MovingAverageObserver
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize, fake_quantize
from bitladder.quantization.qdq import quantize_dequantize, quantize_dequantize_dynamic

SEEDS = st.integers(0, 10_000)


@settings(max_examples=50)
@given(seed=SEEDS, scale=st.floats(1e-4, 10.0), zero_point=st.integers(0, 255))
def test_it_rounds_and_clamps(seed: int, scale: float, zero_point: int) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * 100 * scale
    y = fake_quantize(
        x, torch.tensor(scale), torch.tensor(zero_point, dtype=torch.int32), ACTIVATION
    )
    inverse = np.float32(1.0) / np.float32(scale)
    codes = np.clip(np.rint(x.numpy() * inverse) + zero_point, 0, 255)
    np.testing.assert_allclose(y.numpy(), (codes - zero_point) * np.float32(scale), rtol=1e-6)
    # The int8 model's operators put the same values on the same codes.
    assert torch.equal(y, quantize_dequantize(x, scale, zero_point, ACTIVATION))


def test_it_rounds_and_clamps_each_channel_with_its_own_scale() -> None:
    weight = torch.tensor([[0.26, -5.0], [0.26, 500.0]])
    scale, zero = torch.tensor([0.1, 1.0]), torch.zeros(2, dtype=torch.int32)
    expected = torch.tensor([[0.3, -5.0], [0.0, 127.0]])
    torch.testing.assert_close(fake_quantize(weight, scale, zero, WEIGHT), expected)


@settings(max_examples=25)
@given(seed=SEEDS)
def test_the_gradient_is_straight_through_inside_and_zero_outside(seed: int) -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(seed)) * 2
    x.requires_grad_()
    scale, zero_point = ACTIVATION.qparams(torch.tensor(-1.0), torch.tensor(1.0))
    upstream = torch.arange(100.0)
    fake_quantize(x, scale, zero_point, ACTIVATION).backward(upstream)
    codes = torch.round(x.detach() / scale) + zero_point
    inside = (codes >= 0) & (codes <= 255)
    assert x.grad is not None
    assert 0 < inside.sum() < 100
    torch.testing.assert_close(x.grad, upstream * inside)


def test_weight_gradients_are_straight_through_per_channel() -> None:
    weight = torch.tensor([[1.0, 300.0], [3.0, -2.0]], requires_grad=True)
    scale, zero = torch.tensor([1.0, 0.01]), torch.zeros(2, dtype=torch.int32)
    fake_quantize(weight, scale, zero, WEIGHT).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_half_precision_is_rounded_in_fp32_and_keeps_its_dtype() -> None:
    x = torch.linspace(-1, 1, 50).to(torch.bfloat16)
    scale, zero_point = ACTIVATION.qparams(torch.tensor(-1.0), torch.tensor(1.0))
    y = fake_quantize(x, scale, zero_point, ACTIVATION)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, fake_quantize(x.float(), scale, zero_point, ACTIVATION).bfloat16())


def test_scales_stay_fp32_when_the_model_goes_to_bf16() -> None:
    quantizer = FakeQuantize(ACTIVATION, MinMaxObserver(ACTIVATION))
    quantizer.calibrating = True
    quantizer(torch.tensor([-0.3, 1.0]))
    scale = quantizer.scale.clone()
    quantizer.to(torch.bfloat16)
    assert quantizer.scale.dtype == torch.float32
    assert torch.equal(quantizer.scale, scale)
    assert quantizer.zero_point.dtype == torch.int32


def test_ranges_move_in_training_only_while_observing() -> None:
    quantizer = FakeQuantize(ACTIVATION, MinMaxObserver(ACTIVATION))
    x = torch.tensor([-1.0, 1.0])
    for observing, training in ((False, False), (False, True), (True, False)):
        quantizer.observing = observing
        quantizer.train(training)(x)
        assert not quantizer.observer.saw_data
    quantizer.train()(x)
    assert quantizer.observer.saw_data
    assert quantizer.scale.item() == pytest.approx(2 / 255)


def test_calibrating_moves_ranges_in_eval_mode() -> None:
    quantizer = FakeQuantize(ACTIVATION, MinMaxObserver(ACTIVATION)).eval()
    quantizer.calibrating = True
    x = torch.tensor([-1.0, 1.0])
    assert quantizer(x) is x
    assert quantizer.observer.saw_data


def test_a_weights_range_forgets_what_the_weight_was() -> None:
    quantizer = FakeQuantize(WEIGHT, MovingAverageObserver(WEIGHT), memoryless=True)
    quantizer.observing = True
    quantizer(torch.full((2, 3), 100.0))
    quantizer(torch.full((2, 3), 1.0))
    torch.testing.assert_close(quantizer.scale, torch.full((2,), 1 / 127.5))


def test_calibration_looks_at_a_weight_once_and_at_every_input() -> None:
    for scheme, memoryless, largest in ((WEIGHT, True, 1.0), (ACTIVATION, False, 2.0)):
        quantizer = FakeQuantize(scheme, MinMaxObserver(scheme), memoryless=memoryless)
        quantizer.calibrating = True
        quantizer(torch.full((2, 3), 1.0))
        quantizer(torch.full((2, 3), 2.0))
        assert (quantizer.observer.range()[1] == largest).all()


def test_a_quantizer_that_is_off_returns_the_very_tensor() -> None:
    x = torch.randn(3)
    assert FakeQuantize(ACTIVATION, MinMaxObserver(ACTIVATION))(x) is x
    assert DynamicQuantize(ACTIVATION)(x) is x


def test_an_empty_batch_passes() -> None:
    fixed = FakeQuantize(ACTIVATION, MinMaxObserver(ACTIVATION))
    fixed.calibrating = fixed.quantizing = True
    dynamic = DynamicQuantize(ACTIVATION)
    dynamic.quantizing = True
    for quantizer in (fixed, dynamic):
        assert quantizer(torch.empty(0, 4)).shape == (0, 4)
    assert not fixed.observer.saw_data


@settings(max_examples=30)
@given(seed=SEEDS, shift=st.floats(-5, 5), spread=st.floats(1e-3, 100))
def test_dynamic_ranges_are_those_of_the_int8_model(seed: int, shift: float, spread: float) -> None:
    x = torch.randn(64, generator=torch.Generator().manual_seed(seed)) * spread + shift
    quantizer = DynamicQuantize(ACTIVATION)
    quantizer.quantizing = True
    y = quantizer(x)
    step = (max(x.max().item(), 0.0) - min(x.min().item(), 0.0)) / 255
    assert (y - x).abs().max() <= 1.01 * step
    torch.testing.assert_close(y, quantize_dequantize_dynamic(x, ACTIVATION))


def test_dynamic_gradients_pass_straight_through() -> None:
    x = torch.randn(16, requires_grad=True)
    quantizer = DynamicQuantize(ACTIVATION)
    quantizer.quantizing = True
    quantizer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.sum() >= 15
