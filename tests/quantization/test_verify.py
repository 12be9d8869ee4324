import copy
import math

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import Call
from bitladder.quantization.verify import (
    layer_sqnr,
    local_sqnr,
    output_sqnr,
    require_repeatable,
)

CALLS = [Call((torch.ones(4, 3),), {}), Call((torch.full((2, 3), 2.0),), {})]


def test_the_ratio_is_that_of_energies_over_all_calls() -> None:
    assert output_sqnr(lambda x: x, lambda x: 1.1 * x, CALLS) == pytest.approx(20.0, abs=1e-4)


def test_every_tensor_of_the_output_counts() -> None:
    def whole(x: Tensor) -> dict[str, Tensor]:
        return {"a": x, "b": 3 * x}

    def broken(x: Tensor) -> dict[str, Tensor]:
        return {"a": x, "b": 3 * x + x}

    assert output_sqnr(whole, whole, CALLS) == math.inf
    assert output_sqnr(whole, broken, CALLS) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("signal", "other", "db"),
    [
        (1.0, 1.0, math.inf),
        (0.0, 0.0, math.inf),
        (0.0, 1.0, -math.inf),
        (1.0, math.inf, -math.inf),
        (1.0, math.nan, math.nan),
        (math.nan, 1.0, math.nan),
        (math.inf, math.inf, math.nan),
    ],
)
def test_no_value_is_too_odd_to_be_judged(signal: float, other: float, db: float) -> None:
    result = output_sqnr(lambda x: x * 0 + signal, lambda x: x * 0 + other, CALLS)
    assert result == db or (math.isnan(result) and math.isnan(db))


def test_the_first_layer_that_differs_is_seen_and_what_follows_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_submodule("2").get_parameter("weight").mul_(1.5)
    sqnr = layer_sqnr(model, other, ["0", "2", "3"], CALLS)
    assert sqnr["0"] == math.inf
    assert sqnr["2"] < 50
    assert sqnr["3"] < 50
    assert not any(module._forward_hooks for net in (model, other) for module in net.modules())


def test_in_a_deep_model_each_layer_is_judged_by_its_own_input() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(50)])
    for layer in model:
        nn.init.orthogonal_(layer.get_parameter("weight"))
    other = copy.deepcopy(model)
    with torch.no_grad():
        for layer in other:
            layer.get_parameter("weight").mul_(1.0 + 0.05 * torch.randn(8, 8))
        other.get_submodule("30").get_parameter("weight").mul_(1.5)
    names, calls = [str(i) for i in range(50)], [Call((torch.randn(64, 8),), {})]
    along = layer_sqnr(model, other, names, calls)
    local = local_sqnr(model, other, {name: name for name in names}, calls)
    assert along["20"] < 20
    assert [name for name, db in local.items() if db < 20] == ["30"]
    assert not any(x._forward_hooks or x._forward_pre_hooks for x in model.modules())


def test_a_folded_layer_is_compared_behind_its_batchnorm() -> None:
    norm = nn.BatchNorm1d(3, eps=0.0).eval()
    norm.get_buffer("running_var").fill_(4.0)
    model = nn.Sequential(nn.Linear(3, 3), norm)
    other = nn.Sequential(copy.deepcopy(model[0]), nn.Identity())
    with torch.no_grad():
        other.get_submodule("0").get_parameter("weight").mul_(0.5)
        other.get_submodule("0").get_parameter("bias").mul_(0.5)
    assert local_sqnr(model, other, {"0": "1"}, CALLS)["0"] > 100
    assert local_sqnr(model, other, {"0": "0"}, CALLS)["0"] < 10


def test_a_layer_that_runs_twice_is_compared_twice() -> None:
    model, other = nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3))
    model.append(model[0])
    other.load_state_dict({f"0.{key}": value for key, value in model[0].state_dict().items()})
    assert local_sqnr(model, other, {"0": "0"}, CALLS) == {"0": math.inf}


def test_a_package_that_repeats_itself_passes() -> None:
    require_repeatable(lambda x: [x * 2, {"y": x}], CALLS[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, 1, True])
def test_values_of_every_kind_repeat_themselves(value: float) -> None:
    require_repeatable(lambda x: x.clone(), Call((torch.full((2, 3), value),), {}))


def test_a_package_that_writes_to_its_input_is_refused() -> None:
    def overwrite(x: Tensor) -> Tensor:
        return x.add_(1)

    with pytest.raises(RunError, match="overwrites its input tensor"):
        require_repeatable(overwrite, Call((torch.ones(2),), {}))
    with pytest.raises(RunError, match="overwrites its input tensor"):
        require_repeatable(lambda *, x: overwrite(x), Call((), {"x": torch.ones(2)}))


def test_a_package_that_answers_differently_is_refused() -> None:
    answers = iter([torch.ones(2), torch.zeros(2)])
    with pytest.raises(RunError, match="gives another answer the second time"):
        require_repeatable(lambda x: next(answers), CALLS[0])


def test_the_layers_that_may_have_done_it_are_named() -> None:
    with pytest.raises(RunError, match=r"layers a, b\.c may add in place; leave them out with"):
        require_repeatable(lambda x: x.add_(1), Call((torch.ones(2),), {}), ["a", "b.c"])
    with pytest.raises(RunError, match="an operation of the model itself writes in place"):
        require_repeatable(lambda x: x.add_(1), Call((torch.ones(2),), {}))
