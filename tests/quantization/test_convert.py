import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import (
    Call,
    Recipe,
    calibrate,
    convert,
    float_copy,
    prepare,
    quantized_layers,
)
from bitladder.quantization.convert import scheme_of
from bitladder.quantization.layers import QuantConv2d, QuantLinear
from bitladder.quantization.recipe import Method
from bitladder.quantization.reference import ReferenceLayer
from bitladder.quantization.verify import output_sqnr


def test_int8_is_the_fake_quantized_model_to_rounding(
    any_net: str, any_method: Method, make_ready: Callable[..., Any]
) -> None:
    net = make_ready(any_net, any_method)
    reference = convert(net.model)
    calls = [Call((torch.randn_like(batch),), {}) for batch in net.batches]
    assert output_sqnr(net.model, reference, calls) > 45.0
    references = [m for m in reference.modules() if isinstance(m, ReferenceLayer)]
    assert len(references) == len(quantized_layers(net.model))
    assert all(layer.weight_codes.dtype == torch.int8 for layer in references)


def test_converting_does_not_change_the_original(
    any_net: str, make_ready: Callable[..., Any]
) -> None:
    net = make_ready(any_net, "qat")
    model, x = net.model.train(), net.batches[0]
    before = copy.deepcopy(model)
    for other in (convert(model), float_copy(model)):
        other(x)
        with torch.no_grad():
            for tensor in (*other.parameters(), *other.buffers()):
                tensor.zero_()
    assert model.training
    assert all(
        torch.equal(model.state_dict()[key], value) for key, value in before.state_dict().items()
    )
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(model.eval()(x), before.eval()(x))


def test_nothing_of_the_float_weights_or_norms_is_left(make_ready: Callable[..., Any]) -> None:
    reference = convert(make_ready("resnet_3x8x8", "qat").model)
    assert not list(reference.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in reference.modules())
    assert not any(module.training for module in reference.modules())


def test_the_float_copy_is_the_trained_model_without_rounding(
    any_net: str, make_net: Callable[..., Any], make_ready: Callable[..., Any]
) -> None:
    net = make_ready(any_net, "qat")
    plain = make_net(any_net).model
    plain.load_state_dict(net.model.state_dict())
    x = net.batches[0]
    torch.testing.assert_close(float_copy(net.model)(x), plain(x))


def test_a_half_precision_model_converts_to_fp32(make_ready: Callable[..., Any]) -> None:
    net = make_ready("mlp", "ptq")
    x = net.batches[0]
    expected = convert(net.model)(x)
    y = convert(net.model.to(torch.bfloat16))(x)
    assert y.dtype == torch.float32
    noise = (y - expected).square().mean() / expected.square().mean()
    assert noise < 1e-3


def test_a_layer_without_a_range_is_named(make_net: Callable[..., Any]) -> None:
    model = make_net("mlp").model
    prepare(model, Recipe(method="ptq"))
    with pytest.raises(RunError, match=r"observers of layers\.1\.weight, .* never saw data"):
        convert(model)


def test_a_weight_that_is_not_finite_is_named(make_ready: Callable[..., Any]) -> None:
    model = make_ready("mlp", "ptq").model
    model.head.weight.data[0, 0] = torch.nan
    with pytest.raises(RunError, match="the weight of head holds NaN or infinity"):
        convert(model)


def test_the_model_itself_may_be_a_layer() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(5, 3), torch.randn(16, 5)
    prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    reference = convert(model)
    assert isinstance(reference, ReferenceLayer)
    assert isinstance(model, QuantLinear)
    torch.testing.assert_close(reference(x), model(x))


def test_a_shared_layer_is_converted_everywhere() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.append(model[0])
    x = torch.randn(16, 4)
    prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    reference = convert(model)
    assert isinstance(reference, nn.Sequential)
    assert reference[0] is reference[2]
    torch.testing.assert_close(reference(x), model(x))


def test_what_the_models_own_code_asks_a_layer_is_still_there() -> None:
    class Flattening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.fc = nn.Linear(144, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            assert x.shape[1] == self.conv.out_channels
            return self.fc(x.reshape(-1, self.fc.in_features))

    torch.manual_seed(0)
    model, x = Flattening(), torch.randn(4, 3, 8, 8)
    prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    torch.testing.assert_close(convert(model)(x), model(x), rtol=1e-3, atol=1e-3)


def test_a_one_channel_convolution_pads_its_channel_with_nothing() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1)), torch.rand(4, 1, 8, 8) + 1
    prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    assert isinstance(model[0], QuantConv2d)
    torch.testing.assert_close(convert(model)(x), model(x))


def test_a_layers_scheme_is_plain_values(make_ready: Callable[..., Any]) -> None:
    for method in ("ptq", "dynamic"):
        layer = quantized_layers(make_ready("mlp", method).model)["head"]
        scheme = scheme_of(layer)
        assert scheme["weight"]["scale"] == layer.weight_quantize.scale.tolist()
        assert scheme["weight"]["zero_point"] == [0] * 10
        assert scheme["weight"]["observer"] == "MinMaxObserver"
        assert scheme["weight"]["bits"] == scheme["input"]["bits"] == 8
        assert (scheme["input"]["scale"] is None) == (method == "dynamic")
        assert scheme["input"]["observer"] == (
            "dynamic" if method == "dynamic" else "HistogramObserver"
        )
