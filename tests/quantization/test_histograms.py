"""What is recorded of a prepared model: how values lie in their grids, what each layer costs."""

import math
from importlib import import_module

import pytest
import torch
from torch import nn

from bitladder.quantization import Call, Recipe, Weights, calibrate, prepare, quantized_layers
from bitladder.quantization.histograms import histograms
from bitladder.quantization.recipe import METHODS, Method
from bitladder.quantization.sensitivity import sensitivity


def prepared(method: Method = "ptq") -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)]
    model, x = nn.Sequential(*layers).eval(), torch.randn(64, 6)
    prepare(model, Recipe(method=method))
    calibrate(model, [x])
    return model, x


@pytest.mark.parametrize("method", METHODS)
def test_counts_are_those_of_every_value(method: Method) -> None:
    model, x = prepared(method)
    records = histograms(model, Call((x,), {}))
    assert [record["name"] for record in records] == ["0", "2", "4"]
    for record, inputs in zip(records, (6, 16, 16), strict=True):
        assert sum(record["input"]["counts"]) == 64 * inputs
        assert sum(record["weight"]["counts"]) == model.get_submodule(record["name"]).weight.numel()  # type: ignore[union-attr]
        assert record["weight"]["clipped"] == 0.0
        assert (record["input"]["range"] is None) == (method == "dynamic")
    first = records[0]["input"]
    assert (first["low"], first["high"]) == (x.min().item(), x.max().item())
    counts = torch.histc(x, 64, first["low"], first["high"])
    assert first["counts"] == counts.int().tolist()


def test_what_lies_beyond_the_range_is_clipped() -> None:
    model, x = prepared()
    assert histograms(model, Call((x,), {}))[0]["input"]["clipped"] < 0.01
    assert histograms(model, Call((100 * x,), {}))[0]["input"]["clipped"] > 0.9


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_extremes_as_the_range_clip_no_weight_whatever_the_bits(bits: int) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 32)).eval(), torch.randn(8, 64)
    prepare(model, Recipe(method="ptq", weights=Weights(bits=bits)))
    calibrate(model, [x])
    assert histograms(model, Call((x,), {}))[0]["weight"]["clipped"] == 0.0
    # Of uniformly drawn weights half the range leaves out half, but for what rounds to its ends.
    quantized_layers(model)["0"].weight_quantize.scale.mul_(0.5)
    clipped = histograms(model, Call((x,), {}))[0]["weight"]["clipped"]
    codes = 2**bits
    assert clipped == pytest.approx((codes - 2) / (2 * codes - 2), abs=0.03)


def test_zeros_that_fill_up_a_recurrent_layer_are_no_weights() -> None:
    model, x = nn.LSTM(3, 16, batch_first=True).eval(), torch.randn(2, 5, 3)
    prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    (record,) = histograms(model, Call((x,), {}))
    assert sum(record["weight"]["counts"]) == 64 * 3 + 64 * 16


def test_more_values_than_fp32_can_count_are_counted_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = prepared()
    whole = histograms(model, Call((x,), {}))
    monkeypatch.setattr(import_module(histograms.__module__), "AT_ONCE", 7)
    assert histograms(model, Call((x,), {})) == whole


def test_the_layer_with_few_bits_costs_most() -> None:
    torch.manual_seed(0)
    model, x = prepared()
    quantized_layers(model)["2"].weight_quantize.scale.mul_(40.0)
    found = sensitivity(model, Call((x,), {}))
    assert min(found, key=found.__getitem__) == "2"
    assert found["2"] < 20.0 < found["4"]


def test_a_layer_that_rounds_nothing_costs_nothing() -> None:
    model, x = prepared()
    model.get_submodule("4").weight.data.zero_()  # type: ignore[union-attr]
    calibrate(model, [x])
    assert (
        math.isnan(sensitivity(model, Call((x,), {}))["4"])
        or sensitivity(model, Call((x,), {}))["4"] > 0.0
    )


def test_the_model_is_as_it_was() -> None:
    model, x = prepared()
    before = model(x)
    sensitivity(model, Call((x,), {}))
    histograms(model, Call((x,), {}))
    assert torch.equal(model(x), before)
    assert all(not layer._forward_pre_hooks for layer in quantized_layers(model).values())
