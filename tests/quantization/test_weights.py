"""Weights that are odd: zero, not finite, or with one value far above the others."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import (
    Call,
    Deployment,
    LayerPlan,
    Recipe,
    calibrate,
    convert,
    deploy,
    prepare,
    quantized_layers,
)
from bitladder.quantization.verify import output_sqnr
from bitladder.quantization.weights import lost_to_rounding

Change = Callable[[nn.Module], object]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.head(torch.relu(self.fc(x)))


def ready(change: Change) -> tuple[nn.Module, list[Call], list[LayerPlan]]:
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        change(model)
    x = torch.randn(16, 3, 6, 6)
    plans = prepare(model, Recipe(method="ptq"), example_args=(x,))
    calibrate(model, [x])
    return model, [Call((x,), {})], plans


def deployed(change: Change, folder: Path) -> tuple[nn.Module, list[Call], Deployment]:
    model, calls, plans = ready(change)
    return model, calls, deploy(model, plans, calls, folder / "model.pt2", min_sqnr_db=15.0)


def zero(model: nn.Module) -> None:
    model.get_parameter("fc.weight").zero_()


def zero_channels(model: nn.Module) -> None:
    for name in ("conv.weight", "conv.bias", "fc.weight", "fc.bias", "norm.bias"):
        model.get_parameter(name)[3] = 0.0


@pytest.mark.parametrize("change", [pytest.param(zero, marks=pytest.mark.slow), zero_channels])
def test_zero_weights_are_exact_in_int8(change: Change, tmp_path: Path) -> None:
    model, calls, deployment = deployed(change, tmp_path)
    assert deployment.output_sqnr_db > 35.0
    for layer in quantized_layers(model).values():
        assert bool((layer.weight_quantize.scale > 0).all())
    reference = convert(model)
    assert not reference.get_submodule("fc").get_buffer("weight_codes")[3].any()
    hidden: list[Any] = []
    reference.get_submodule("fc").register_forward_hook(lambda _, args, y: hidden.append(y))
    reference(*calls[0].args)
    bias = model.get_parameter("fc.bias")[3].detach()
    assert torch.equal(hidden[0][:, 3], bias.expand(16))
    assert lost_to_rounding(quantized_layers(model)["fc"]) is None


def put(parameter: str, value: float) -> Change:
    def change(model: nn.Module) -> None:
        model.get_parameter(parameter).view(-1)[0].fill_(value)

    return change


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("head.weight", r"the observer of head\.weight saw NaN or infinity"),
        ("head.bias", "the bias of head holds NaN or infinity"),
        ("fc.bias", "the observer of the input of head saw NaN or infinity"),
        ("norm.weight", r"the observer of .* saw NaN or infinity"),
    ],
)
def test_what_is_not_finite_is_named(parameter: str, says: str, value: float) -> None:
    with pytest.raises(RunError, match=says):
        convert(ready(put(parameter, value))[0])


def test_what_is_no_longer_finite_after_calibration_is_named() -> None:
    for name, says in [
        ("conv.weight", "the weight of conv holds"),
        ("norm.weight", "the BatchNorm behind conv holds"),
    ]:
        model = ready(lambda model: None)[0]
        with torch.no_grad():
            put(name, math.nan)(model)
        with pytest.raises(RunError, match=says):
            convert(model)


def test_a_parameter_of_a_recurrent_layer_is_named() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LSTM(4, 4))
    prepare(model.eval(), Recipe(method="ptq"))
    calibrate(model, [torch.randn(3, 2, 4)])
    with torch.no_grad():
        model.get_parameter("0.bias_hh_l0")[0] = math.inf
    with pytest.raises(RunError, match="the bias_hh_l0 of 0 holds NaN or infinity"):
        convert(model)


@pytest.mark.parametrize("value", [pytest.param(1e4, marks=pytest.mark.slow), 1e30])
def test_an_outlier_quantizes_and_is_told_with_what_it_costs(value: float, tmp_path: Path) -> None:
    message = (
        r"layer fc: 88% of the weights of output channel 0 round to zero, because its largest is"
        r" [0-9.e+]+ times their median; .* quantization\.skip=\[fc\]"
    )
    with pytest.warns(UserWarning, match=message):
        model, calls, deployment = deployed(put("fc.weight", value), tmp_path)
    assert deployment.output_sqnr_db > 15.0
    assert math.isfinite(output_sqnr(model, deployment.run, calls))


@pytest.mark.parametrize("largest", [1.0, 30.0])
def test_a_weight_without_a_far_outlier_says_nothing(largest: float) -> None:
    layers = quantized_layers(ready(put("fc.weight", largest))[0])
    assert [lost_to_rounding(layer) for layer in layers.values()] == [None] * 3


def test_few_codes_are_no_outlier() -> None:
    layer = quantized_layers(ready(lambda model: None)[0])["fc"]
    layer.weight_quantize.scale = layer.weight_quantize.scale * 100  # next to all round to zero
    assert lost_to_rounding(layer) is None


def test_of_two_outliers_in_a_channel_both_are_kept() -> None:
    def change(model: nn.Module) -> None:
        model.get_parameter("fc.weight")[2, :2] = 1e4

    lost = lost_to_rounding(quantized_layers(ready(change)[0])["fc"])
    assert lost is None  # three quarters are lost, which is not nearly all

    def change_wide(model: nn.Module) -> None:
        model.get_parameter("head.weight")[2, :2] = 1e4

    lost = lost_to_rounding(quantized_layers(ready(change_wide)[0])["head"])
    assert lost is not None
    assert (lost.channel, lost.share) == (2, 0.875)
