from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitladder.quantization import (
    Recipe,
    calibrate,
    convert,
    prepare,
    quantized_layers,
    set_observing,
    set_quantizing,
)
from bitladder.quantization.layers import BatchNorm, QuantizedLayer

QAT = Recipe(method="qat")
PAIRS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)), (8, 3, 7, 7)),
    "no_bias": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)),
        (8, 3, 7, 7),
    ),
    "depthwise": (
        lambda: nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6)),
        (8, 6, 7, 7),
    ),
    "grouped": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
        (8, 4, 7, 7),
    ),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6)), (8, 3, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(3, 6, 2), nn.BatchNorm3d(6)), (8, 3, 4, 4, 4)),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), nn.BatchNorm2d(6)),
        (8, 4, 4, 4),
    ),
    "transposed1d": (
        lambda: nn.Sequential(nn.ConvTranspose1d(3, 6, 4, 2, bias=False), nn.BatchNorm1d(6)),
        (8, 3, 5),
    ),
    "reflecting": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(6)
        ),
        (8, 3, 5, 5),
    ),
    "linear": (lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)), (16, 5)),
    "plain_norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False)),
        (8, 3, 7, 7),
    ),
}


def folded_pair(name: str, gains: list[float] | None = None) -> tuple[nn.Module, Tensor]:
    """A prepared layer with its BatchNorm, statistics and gains away from 0 and 1, and data."""
    build, shape = PAIRS[name]
    torch.manual_seed(0)
    model, x = build(), torch.randn(*shape)
    norm = model.get_submodule("1")
    assert isinstance(norm, BatchNorm)
    for _ in range(3):
        model(torch.randn(*shape) * 2 + 1)
    if norm.affine:
        nn.init.uniform_(norm.bias, -1, 1)
        with torch.no_grad():
            norm.weight.copy_(torch.tensor(gains or [1.5, -1.0, 0.3, 0.0, -0.2, 2.0]))
    prepare(model, QAT, example_args=(x,))
    assert next(iter(quantized_layers(model).values())).batch_norm is norm
    return model, x


def quantize(model: nn.Module, x: Tensor) -> None:
    calibrate(model, [x])
    set_observing(model, True)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("training", [False, True])
def test_with_quantizers_off_it_is_the_float_layer_to_the_bit(name: str, training: bool) -> None:
    model, x = folded_pair(name)
    plain = PAIRS[name][0]()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.train(training)(x), plain.train(training)(x))


@pytest.mark.parametrize("name", PAIRS)
def test_in_training_it_is_the_float_layer_up_to_rounding(name: str) -> None:
    model, x = folded_pair(name)
    plain = PAIRS[name][0]()
    plain.load_state_dict(model.state_dict())
    quantize(model, x)
    y, expected = model.train()(x), plain.train()(x)
    assert not torch.equal(y, expected)
    noise = (y - expected).square().mean() / expected.square().mean()
    assert noise < 1e-3
    for key, value in plain.state_dict().items():  # BatchNorm's statistics go on as if in float
        torch.testing.assert_close(model.state_dict()[key], value, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", PAIRS)
def test_evaluation_under_rounding_is_what_int8_computes(name: str) -> None:
    model, x = folded_pair(name)
    quantize(model, x)
    model.train()(x)
    model.eval()
    torch.testing.assert_close(convert(model)(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_are_finite_and_near_those_of_float(name: str) -> None:
    model, x = folded_pair(name)
    plain = PAIRS[name][0]()
    plain.load_state_dict(model.state_dict())
    quantize(model, x)
    target = torch.randn_like(plain(x))
    for net in (model, plain):
        (net.train()(x) - target).square().mean().backward()
    for (key, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        assert p.grad.isfinite().all(), key
        # The largest positive weight of a channel lies half a step outside the grid and gets none.
        inside = (p.grad != 0) | (q.grad.abs() < 1e-6)
        assert inside.float().mean() > 0.85
        torch.testing.assert_close(p.grad[inside], q.grad[inside], rtol=0.1, atol=0.02)


@settings(max_examples=25)
@given(
    gains=st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6),
    name=st.sampled_from(["conv", "no_bias", "depthwise", "linear"]),
)
def test_any_gain_gives_finite_gradients_and_an_equal_int8_layer(
    gains: list[float], name: str
) -> None:
    model, x = folded_pair(name, gains)
    quantize(model, x)
    model.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    torch.testing.assert_close(convert(model)(x), model(x), rtol=1e-4, atol=1e-3)


def test_the_folded_weight_is_what_is_rounded() -> None:
    model, x = folded_pair("conv")
    quantize(model, x)
    layer = quantized_layers(model)["0"]
    weight, _ = layer.folded()
    visible = [0, 1, 2, 4, 5]  # a gain of zero has no weight left to measure
    torch.testing.assert_close(
        layer.weight_quantize.scale[visible], weight.abs().amax((1, 2, 3))[visible] / 127.5
    )


def test_folding_gives_the_composition_of_layer_and_norm() -> None:
    for name in PAIRS:
        model, x = folded_pair(name)
        layer = quantized_layers(model)["0"]
        weight, bias = layer.folded()
        torch.testing.assert_close(
            layer.compute(x, layer.as_held(weight), bias), model.eval()(x), rtol=1e-4, atol=1e-4
        )


def test_a_norm_that_freezes_keeps_evaluation_and_training_equal() -> None:
    model, x = folded_pair("conv")
    quantize(model, x)
    model.train()
    model.get_submodule("1").eval()
    y = model(x)
    assert torch.equal(y, model.eval()(x))


def test_rounding_changes_the_output_and_switches_off_again() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 4)), torch.randn(16, 8)
    before = model(x)
    prepare(model, QAT)
    calibrate(model, [x])
    assert not torch.equal(model(x), before)
    set_quantizing(model, False)
    assert torch.equal(model(x), before)


def test_a_copy_folds_its_own_norm() -> None:
    model, _ = folded_pair("conv")
    copy = deepcopy(model)
    layer: Any = copy.get_submodule("0")
    assert isinstance(layer, QuantizedLayer)
    assert layer.batch_norm is copy.get_submodule("1")
