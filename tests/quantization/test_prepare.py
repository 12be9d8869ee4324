import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import UserError
from bitladder.quantization import (
    Activations,
    Recipe,
    prepare,
    quantized_layers,
    set_observing,
    set_quantizing,
)
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.layers import QuantConv2d, QuantLinear
from bitladder.quantization.recipe import Method

PTQ = Recipe(method="ptq")


class Scaled(nn.Linear):
    """A user's own kind of linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize("training", [False, True])
def test_a_prepared_model_computes_the_same_bits(
    any_net: str, any_method: Method, training: bool, make_net: Callable[..., Any]
) -> None:
    net = make_net(any_net)
    x = net.batches[0]
    prepared = copy.deepcopy(net.model)
    prepare(prepared, Recipe(method=any_method), example_args=(x,))
    outputs = []
    for model in (net.model, prepared):
        torch.manual_seed(0)  # of dropout
        y = model.train(training)(x)
        y.square().mean().backward()
        outputs.append([y, *(p.grad for p in model.parameters()), *model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))


def test_the_state_dict_is_that_of_the_float_model_both_ways(
    any_net: str, make_net: Callable[..., Any], make_ready: Callable[..., Any]
) -> None:
    plain, prepared = make_net(any_net).model, make_ready(any_net, "qat").model
    assert list(plain.state_dict()) == list(prepared.state_dict())
    trained = {key: value.clone() for key, value in prepared.state_dict().items()}
    prepared.load_state_dict(plain.state_dict(), strict=True)
    plain.load_state_dict(trained, strict=True)
    assert all(torch.equal(plain.state_dict()[key], trained[key]) for key in trained)


def test_modules_and_parameters_are_the_same_objects() -> None:
    model = small()
    modules, parameters = list(model.modules()), dict(model.named_parameters())
    prepare(model, PTQ)
    assert {id(m) for m in modules} <= {id(m) for m in model.modules()}
    assert all(model.get_parameter(name) is p for name, p in parameters.items())
    assert dict(model.named_parameters()).keys() == parameters.keys()


def test_an_optimizer_made_before_trains_the_prepared_model() -> None:
    model, x = small(), torch.randn(4, 3, 8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    prepare(model, Recipe(method="qat"))
    set_observing(model, True)
    set_quantizing(model, True)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_every_layer_with_parameters_has_a_plan_with_its_reason() -> None:
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "circular": nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
            "norm": nn.LayerNorm(4),
            "scaled": Scaled(4, 4),
            "relu": nn.ReLU(),
            "skipped": nn.Linear(4, 4),
            "transposed": nn.ConvTranspose3d(4, 4, 2),
            "rnn": nn.RNN(4, 4),
        }
    )
    plans = prepare(model, PTQ, skip=["skip*"])
    assert [(plan.name, plan.type, plan.quantized, plan.reason) for plan in plans] == [
        ("conv", "Conv2d", True, None),
        ("circular", "Conv2d", True, None),
        ("norm", "LayerNorm", False, "LayerNorm has no quantized twin"),
        ("scaled", "Scaled", False, "Scaled is a subclass of Linear"),
        ("skipped", "Linear", False, "named in skip"),
        ("transposed", "ConvTranspose3d", False, "ConvTranspose3d has no quantized twin"),
        ("rnn", "RNN", False, "RNN has no quantized twin"),
    ]
    assert list(quantized_layers(model)) == ["conv", "circular"]
    assert type(model["scaled"]) is Scaled


def test_a_range_a_token_leaves_convolutions_in_float_and_says_why() -> None:
    plans = prepare(small(), Recipe(method="dynamic", activations=Activations(per="token")))
    assert [plan.quantized for plan in plans] == [False, True]
    assert plans[0].reason == "its input has no tokens that could have a range each"


def test_only_and_skip_choose_by_pattern() -> None:
    def chosen(only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[str]:
        model = nn.ModuleDict(
            {
                f"block{i}": nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
                for i in (1, 2)
            }
        )
        prepare(model, PTQ, only=only, skip=skip)
        return list(quantized_layers(model))

    assert chosen(only=["block1.*"]) == ["block1.a", "block1.b"]
    assert chosen(skip=["*.a"]) == ["block1.b", "block2.b"]
    assert chosen(only=["*.a"], skip=["block1.*"]) == ["block2.a"]
    assert chosen(only=["block2.b", "block1.a"]) == ["block1.a", "block2.b"]


@pytest.mark.parametrize(
    ("what", "patterns"), [("skip", {"skip": ["encodr"]}), ("only", {"only": ["encodr"]})]
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_name(
    what: str, patterns: Any
) -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(UserError) as error:
        prepare(model, PTQ, **patterns)
    assert str(error.value) == (
        f"quantization.{what}: 'encodr' matches no layer; did you mean 'encoder'?"
    )
    assert not quantized_layers(model)


def test_a_model_with_nothing_to_quantize_is_refused_with_the_reasons() -> None:
    with pytest.raises(UserError, match=r"no layer can be quantized \(there is no layer\)"):
        prepare(nn.ReLU(), PTQ)
    with pytest.raises(UserError, match="LayerNorm: LayerNorm has no quantized twin"):
        prepare(nn.Sequential(nn.LayerNorm(3)), PTQ)
    with pytest.raises(UserError, match="Linear: named in skip"):
        prepare(nn.Sequential(nn.Linear(3, 3)), PTQ, skip=["*"])


def test_the_model_itself_may_be_a_layer() -> None:
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    before = model(x)
    prepare(model, PTQ)
    assert isinstance(model, QuantLinear)
    assert torch.equal(model(x), before)


def test_a_shared_module_is_prepared_once_and_stays_shared() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.append(model[0])
    plans = prepare(model, PTQ)
    assert len(plans) == 1
    assert model[0] is model[2]


def test_tied_parameters_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    prepare(model, PTQ)
    assert model[1].weight is model[0].weight


def test_hooks_of_the_user_still_run() -> None:
    model = small()
    seen = []
    first = model.get_submodule("0")
    first.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    prepare(model, PTQ)
    model(torch.randn(2, 3, 8, 8))
    assert seen == [(2, 4, 6, 6)]


def test_modes_that_the_user_set_survive_the_example_pass() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    model[1].eval()
    statistics = copy.deepcopy(model[1].state_dict())
    prepare(model, PTQ, example_args=(torch.randn(2, 3, 8, 8),))
    assert [module.training for module in model] == [True, False, True]
    assert model.training
    assert all(torch.equal(model[1].state_dict()[key], statistics[key]) for key in statistics)


def test_switches_reach_every_quantizer() -> None:
    model = small()
    prepare(model, PTQ)
    for enabled in (True, False):
        set_quantizing(model, enabled)
        set_observing(model, enabled)
        for layer in quantized_layers(model).values():
            assert isinstance(layer.input_quantize, FakeQuantize)
            for quantizer in (layer.input_quantize, layer.weight_quantize):
                assert quantizer.quantizing is quantizer.observing is enabled


def test_a_prepared_model_copies_and_moves_to_bf16() -> None:
    model, x = small(), torch.randn(2, 3, 8, 8)
    prepare(model, Recipe(method="qat"), example_args=(x,))
    set_observing(model, True)
    set_quantizing(model, True)
    twin = copy.deepcopy(model).to(torch.bfloat16)
    y = twin(x.bfloat16())
    assert y.dtype == torch.bfloat16
    layer = quantized_layers(twin)["0"]
    assert isinstance(layer, QuantConv2d)
    assert layer.weight_quantize.scale.dtype == torch.float32
    y.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in twin.parameters())
