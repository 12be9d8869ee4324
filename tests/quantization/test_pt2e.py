"""PTQ against torchao's pt2e flow, an implementation of the same arithmetic by other people."""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.quantization import (
    Call,
    MinMaxObserver,
    Recipe,
    calibrate,
    convert,
    prepare,
    quantized_layers,
)
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.reference import ReferenceLayer
from bitladder.quantization.verify import output_sqnr

PT2E_EPS = 2**-12  # the least scale of pt2e's x86 observers; ours is fp32's epsilon


@dataclass
class Pt2e:
    """What the other flow gave: the model, and its scales in the order of the layers."""

    model: nn.Module
    inputs: list[tuple[float, int]]
    weights: list[Tensor]


@pytest.fixture(scope="module")
def pt2e() -> Callable[[nn.Module, Sequence[Tensor]], Pt2e]:
    """Quantizes a float model by torchao's flow with min-max observers."""
    with warnings.catch_warnings():
        # torchao says at import which of its C++ extensions do not fit this machine.
        warnings.simplefilter("ignore")
        from torchao.quantization.pt2e.observer import MinMaxObserver as TheirMinMax
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    def quantize(model: nn.Module, batches: Sequence[Tensor]) -> Pt2e:
        default = x86.get_default_x86_inductor_quantization_config()
        assert default.input_activation is not None
        minmax = dataclasses.replace(
            default.input_activation,
            observer_or_fake_quant_ctr=TheirMinMax.with_args(eps=PT2E_EPS),
        )
        config = dataclasses.replace(default, input_activation=minmax, output_activation=minmax)
        quantizer = x86.X86InductorQuantizer().set_global(config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(copy.deepcopy(model), (batches[0],)).module()
            prepared = prepare_pt2e(exported, quantizer)
            for batch in batches:
                prepared(batch)
            converted = convert_pt2e(prepared)
        nodes = list(converted.graph.nodes)
        rounding = [n.args for n in nodes if "quantize_per_tensor.default" in str(n.target)]
        inputs = [(args[1], args[2]) for args in rounding[::2]]
        weights = [value for name, value in converted.state_dict().items() if "_scale_" in name]
        return Pt2e(converted, inputs, weights)

    return quantize


class Plain(nn.Module):
    """Convolutions with and without BatchNorm, a depthwise one, a linear: no residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 12, 1, stride=2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.head(torch.relu(self.conv3(x)).mean((2, 3)))


def trained(model: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    batches = [torch.randn(16, 3, 8, 8) for _ in range(4)]
    for batch in batches:
        model(batch)
    return model.eval(), batches


def ours(model: nn.Module, batches: list[Tensor]) -> tuple[nn.Module, nn.Module]:
    """The prepared and calibrated model, and the reference it converts to."""
    model = copy.deepcopy(model)
    recipe = Recipe(method="ptq", observer=MinMaxObserver)
    prepare(model, recipe, example_args=(batches[0],))
    calibrate(model, batches)
    return model, convert(model)


def test_scales_zero_points_and_outputs_agree_to_rounding(pt2e: Callable[..., Pt2e]) -> None:
    torch.manual_seed(0)
    model, batches = trained(Plain())
    theirs = pt2e(model, batches)
    prepared, reference = ours(model, batches)
    layers = quantized_layers(prepared)
    assert len(layers) == len(theirs.inputs) == len(theirs.weights) == 4
    for layer, (scale, zero_point), weight_scale in zip(
        layers.values(), theirs.inputs, theirs.weights, strict=True
    ):
        assert isinstance(layer.input_quantize, FakeQuantize)
        assert layer.input_quantize.scale.item() == pytest.approx(scale, rel=1e-5)
        assert layer.input_quantize.zero_point.item() == zero_point
        assert (weight_scale > PT2E_EPS).all()
        torch.testing.assert_close(layer.weight_quantize.scale, weight_scale, rtol=1e-5, atol=0)
    # The same scales to the last bits but one: a value here and there falls on the next code.
    x = torch.randn(16, 3, 8, 8)
    assert output_sqnr(theirs.model, reference, [Call((x,), {})]) > 50.0
    torch.testing.assert_close(reference(x), theirs.model(x), rtol=0.0, atol=0.01)


def test_integer_weights_are_the_same_but_for_ties(pt2e: Callable[..., Pt2e]) -> None:
    torch.manual_seed(0)
    model, batches = trained(Plain())
    state = pt2e(model, batches).model.state_dict()
    _, reference = ours(model, batches)
    codes = [m.weight_codes for m in reference.modules() if isinstance(m, ReferenceLayer)]
    for index, code in enumerate(codes):
        difference = (code.int() - state[f"_frozen_param{index}"].int()).abs()
        assert difference.max() <= 1
        assert (difference == 0).float().mean() > 0.97


def test_a_weak_channel_keeps_its_bits_where_pt2e_has_a_least_scale(
    pt2e: Callable[..., Pt2e],
) -> None:
    # A channel whose largest weight is below 127.5 * 2^-12 = 0.03 gets a scale that is too coarse
    # from pt2e; ours fits the channel. This is the one difference in the scales.
    torch.manual_seed(0)
    model, batches = trained(Plain())
    model.get_submodule("head").get_parameter("weight").data[0] *= 1e-3
    theirs = pt2e(model, batches)
    prepared, _ = ours(model, batches)
    scale = quantized_layers(prepared)["head"].weight_quantize.scale
    assert theirs.weights[-1][0] == PT2E_EPS
    assert scale[0] < PT2E_EPS / 10
    torch.testing.assert_close(scale[1:], theirs.weights[-1][1:], rtol=1e-5, atol=0)


def test_a_residual_add_stays_float_where_pt2e_quantizes_it(
    pt2e: Callable[..., Pt2e], make_net: Callable[..., Any]
) -> None:
    # pt2e rounds both inputs of an add to fuse it into the convolution: two roundings more a block.
    # Layers of ours round their own inputs only, so the answer is no further from the float model.
    net = make_net("resnet_3x8x8")
    theirs = pt2e(net.model, net.batches)
    prepared, reference = ours(net.model, net.batches)
    assert len(theirs.inputs) > len(quantized_layers(prepared))
    assert len(theirs.weights) == len(quantized_layers(prepared))
    for layer, weight_scale in zip(
        quantized_layers(prepared).values(), theirs.weights, strict=True
    ):
        assert any(scale.shape == layer.weight_quantize.scale.shape for scale in theirs.weights)
        assert weight_scale.dim() == 1
    calls = [Call((batch,), {}) for batch in net.batches]
    assert output_sqnr(theirs.model, reference, calls) > 25.0
    assert (
        output_sqnr(net.model, reference, calls) > output_sqnr(net.model, theirs.model, calls) - 1
    )
