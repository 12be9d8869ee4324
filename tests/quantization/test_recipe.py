from functools import partial
from typing import Any

import pytest

from bitladder.errors import UserError
from bitladder.quantization import (
    Activations,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    Recipe,
    Weights,
)
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize
from bitladder.quantization.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantConv3d,
    QuantConvTranspose2d,
    QuantEmbedding,
    QuantLinear,
    QuantLSTM,
)
from bitladder.quantization.recipe import METHODS, Method


def test_an_unknown_method_is_refused_with_the_choices() -> None:
    name: Any = "int8"
    with pytest.raises(UserError, match="'int8' is not one of dynamic, ptq, qat"):
        Recipe(method=name)


@pytest.mark.parametrize(
    ("method", "observer"), [("ptq", HistogramObserver), ("qat", MovingAverageObserver)]
)
def test_each_method_has_its_default_observer(method: Method, observer: type[Observer]) -> None:
    quantizer = Recipe(method=method).input_quantizer()
    assert isinstance(quantizer, FakeQuantize)
    assert type(quantizer.observer) is observer
    assert type(Recipe(method=method).weight_quantizer().observer) is MinMaxObserver


@pytest.mark.parametrize(
    ("key", "make", "complaint"),
    [
        ("observer", partial(PercentileObserver, percentile=0.5), "percentile must be in"),
        ("observer", partial(MovingAverageObserver, averaging_constant=2.0), "averaging_constant"),
        ("weight_observer", partial(MSEObserver, bins=1), "bins must be at least 16, not 1"),
        ("weight_observer", HistogramObserver, "one range for a tensor, not one a channel"),
    ],
)
def test_what_an_observer_refuses_is_said_with_the_key(key: str, make: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=rf"quantization\.{key}: .*{complaint}"):
        Recipe(method="qat", **{key: make})


def test_dynamic_observes_no_inputs() -> None:
    assert isinstance(Recipe(method="dynamic").input_quantizer(), DynamicQuantize)


def test_every_quantizer_is_fresh() -> None:
    recipe = Recipe(method="ptq")
    assert recipe.input_quantizer() is not recipe.input_quantizer()
    assert recipe.weight_quantizer() is not recipe.weight_quantizer()


def test_a_range_a_token_leaves_layers_without_tokens_in_float() -> None:
    convolutions = (QuantConv1d, QuantConv2d, QuantConv3d, QuantConvTranspose2d)
    tokens = Activations(per="token")
    for twin in (QuantLinear, QuantEmbedding, QuantLSTM, *convolutions):
        layer = twin.float_type.__new__(twin.float_type)
        for method in METHODS:
            assert Recipe(method=method).why_not(layer) is None
        for method in ("dynamic", "qat"):
            reason = Recipe(method=method, activations=tokens).why_not(layer)
            assert bool(reason) == (twin in convolutions)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"weights": {"bits": 8}}, "quantization.weights is a dict: write quantization.weights"),
        ({"activations": [Activations()]}, "quantization.activations is a list: write"),
        ({"activations": Weights()}, "_target_=bitladder.quantization.Activations and its keys"),
        ({"observer": lambda scheme: 3}, "quantization.observer makes a int, which is no Observer"),
        ({"weight_observer": lambda: 3}, "quantization.weight_observer: .* takes 0 positional"),
    ],
)
def test_what_is_no_grid_and_no_observer_is_refused(
    arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        Recipe(method="ptq", **arguments)
