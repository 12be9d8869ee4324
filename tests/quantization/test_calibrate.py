from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError, UserError
from bitladder.quantization import Call, Recipe, calibrate, prepare, quantized_layers
from bitladder.quantization.calibrate import calibrating
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.recipe import Method


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.spare = nn.Linear(4, 3)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        return self.fc(x * scale)


def prepared(method: Method = "ptq") -> nn.Module:
    torch.manual_seed(0)
    model = Scaled()
    prepare(model, Recipe(method=method), skip=["spare"])
    return model


def test_it_learns_ranges_from_all_batches_and_switches_rounding_on() -> None:
    model = Scaled()
    prepare(model, Recipe(method="ptq"), skip=["spare"])
    batches = [torch.full((2, 4), -1.0), torch.full((2, 4), 3.0)]
    assert calibrate(model, batches) == 2
    layer = quantized_layers(model)["fc"]
    assert isinstance(layer.input_quantize, FakeQuantize)
    observer = layer.input_quantize.observer
    assert observer.get_buffer("minimum") == -1.0
    assert observer.get_buffer("maximum") == 3.0
    assert layer.input_quantize.quantizing
    assert layer.weight_quantize.quantizing


def test_ranges_are_those_of_the_float_model(make_net: Callable[..., Any]) -> None:
    net = make_net("mlp")
    hidden: list[Tensor] = []
    handle = net.model.head.register_forward_pre_hook(lambda _, args: hidden.append(args[0]))
    net.model(net.batches[0])
    handle.remove()
    prepare(net.model, Recipe(method="ptq"))
    for _ in range(2):  # the second time rounding is on before, and must not change what is seen
        calibrate(net.model, net.batches[:1])
        observer = quantized_layers(net.model)["head"].input_quantize.get_submodule("observer")
        assert observer.get_buffer("maximum") == hidden[0].max()


def test_arguments_of_any_form_pass() -> None:
    model = prepared()
    calibrate(model, [Call((torch.ones(2, 4),), {"scale": 5.0})])
    observer = quantized_layers(model)["fc"].input_quantize.get_submodule("observer")
    assert observer.get_buffer("maximum") == 5.0


def test_nothing_but_ranges_changes(make_net: Callable[..., Any]) -> None:
    net = make_net("separable")
    prepare(net.model, Recipe(method="ptq"), example_args=(net.batches[0],))
    net.model.train()
    net.model.get_submodule("norm").eval()
    before = {key: value.clone() for key, value in net.model.state_dict().items()}
    modes = [module.training for module in net.model.modules()]
    calibrate(net.model, net.batches)
    assert all(torch.equal(value, before[key]) for key, value in net.model.state_dict().items())
    assert [module.training for module in net.model.modules()] == modes
    assert all(p.grad is None for p in net.model.parameters())


def test_the_weights_alone_can_be_measured_again() -> None:
    model = prepared()
    calibrate(model, [torch.ones(2, 4)])
    layer = quantized_layers(model)["fc"]
    assert isinstance(layer.input_quantize, FakeQuantize)
    kept = layer.input_quantize.scale.clone()
    weight = layer.weight_quantize.scale.clone()
    with torch.no_grad():
        layer.weight *= 2
    calibrate(model, [torch.ones(2, 4) * 100], inputs=False)
    assert torch.equal(layer.input_quantize.scale, kept)
    torch.testing.assert_close(layer.weight_quantize.scale, weight * 2)


@pytest.mark.parametrize("method", ["dynamic", "ptq", "qat"])
def test_no_batches_are_refused(method: Method) -> None:
    with pytest.raises(UserError, match="calibration got no batches"):
        calibrate(prepared(method), [])


def test_a_layer_that_never_ran_is_named() -> None:
    model = Scaled()
    prepare(model, Recipe(method="ptq"))
    with pytest.raises(RunError, match=r"the observer of spare\.weight never saw data"):
        calibrate(model, [torch.ones(2, 4)])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_bad_data_are_named_with_the_layer(bad: float) -> None:
    with pytest.raises(RunError, match="the observer of the input of fc saw NaN or infinity"):
        calibrate(prepared(), [torch.ones(2, 4), torch.full((2, 4), bad), torch.ones(2, 4)])


def test_an_error_in_the_model_switches_calibration_off() -> None:
    model = prepared().train()
    with pytest.raises(RuntimeError), calibrating(model):
        model(torch.ones(2, 5))
    assert model.training
    for layer in quantized_layers(model).values():
        assert not layer.weight_quantize.calibrating
