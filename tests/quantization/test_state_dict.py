from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitladder.errors import UserError
from bitladder.quantization import (
    EntropyObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    Recipe,
    calibrate,
    link_batch_norms,
    load_quantization_state,
    prepare,
    quantization_state,
    quantized_layers,
    set_observing,
    watch,
)
from bitladder.quantization.recipe import Method
from bitladder.quantization.state_dict import is_prepared


def test_a_fresh_model_goes_on_where_the_old_one_was(
    any_net: str,
    any_method: Method,
    make_net: Callable[..., Any],
    make_ready: Callable[..., Any],
    tmp_path: Path,
) -> None:
    old = make_ready(any_net, any_method)
    set_observing(old.model, True)
    checkpoint = {"model": old.model.state_dict(), "state": quantization_state(old.model)}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    new = make_net(any_net).model
    prepare(new, Recipe(method=any_method))  # without an example: norms are linked by the state
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    new.load_state_dict(checkpoint["model"])
    load_quantization_state(new, checkpoint["state"])
    x = torch.randn_like(old.batches[0])
    assert torch.equal(new.eval()(x), old.model.eval()(x))
    for model in (old.model, new):
        torch.manual_seed(1)  # of dropout
        model.train()(x)  # moves ranges
    assert torch.equal(new.eval()(x), old.model.eval()(x))
    flat_old, flat_new = str(quantization_state(old.model)), str(quantization_state(new))
    assert flat_old == flat_new


@pytest.mark.parametrize(
    ("observer", "weight_observer"),
    [
        (EntropyObserver, MinMaxObserver),
        (MSEObserver, MSEObserver),
        (PercentileObserver, PercentileObserver),
        (HistogramObserver, MovingAverageObserver),
    ],
)
def test_calibration_goes_on_where_it_was_with_every_observer(
    observer: type[Observer],
    weight_observer: type[Observer],
    make_net: Callable[..., Any],
    tmp_path: Path,
) -> None:
    recipe = Recipe(method="ptq", observer=observer, weight_observer=weight_observer)
    old, new = make_net("mlp"), make_net("mlp")
    prepare(old.model, recipe)
    calibrate(old.model, old.batches[:2])
    torch.save(quantization_state(old.model), tmp_path / "state.pt")
    prepare(new.model, recipe)
    load_quantization_state(new.model, torch.load(tmp_path / "state.pt", weights_only=True))
    for model in (old.model, new.model):
        calibrate(model, [batch * 3 for batch in old.batches[2:]])
    assert _leaves(quantization_state(old.model)) == _leaves(quantization_state(new.model))


def _leaves(tree: Any) -> Any:
    """Tensors as lists: compared to the bit, all of their values."""
    if isinstance(tree, dict):
        return {key: _leaves(value) for key, value in tree.items()}
    return tree.tolist() if isinstance(tree, torch.Tensor) else tree


def test_other_quantized_layers_are_refused(
    make_net: Callable[..., Any], make_ready: Callable[..., Any]
) -> None:
    state = quantization_state(make_ready("mlp", "qat").model)
    model = make_net("mlp").model
    prepare(model, Recipe(method="qat"), skip=["head"])
    with pytest.raises(UserError, match=r"other quantized layers \(first difference: head\)"):
        load_quantization_state(model, state)


def test_another_observer_is_refused(
    make_net: Callable[..., Any], make_ready: Callable[..., Any]
) -> None:
    state = quantization_state(make_ready("mlp", "qat").model)
    model = make_net("mlp").model
    prepare(model, Recipe(method="ptq"))
    with pytest.raises(UserError, match=r"no 'observer.counts' for .*another observer"):
        load_quantization_state(model, state)


def test_a_state_without_ranges_loads_too(make_net: Callable[..., Any]) -> None:
    model, x = make_net("resnet_1x8x8").model, make_net("resnet_1x8x8").batches[0]
    recipe = Recipe(method="qat", observer=MinMaxObserver)
    prepare(model, recipe)
    load_quantization_state(model, quantization_state(model))
    with watch(model) as observed:
        model(x)
    link_batch_norms(model, observed)
    state = quantization_state(model)
    assert state["stem.0"]["batch_norm"] == "stem.1"
    assert not quantized_layers(model)["stem.0"].weight_quantize.observer.saw_data


def test_it_knows_a_prepared_model(make_net: Callable[..., Any]) -> None:
    model = make_net("mlp").model
    assert not is_prepared(model)
    prepare(model, Recipe(method="ptq"))
    assert is_prepared(model)
