"""What holds for every layer that has a twin."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import UserError
from bitladder.quantization import (
    Call,
    Recipe,
    calibrate,
    convert,
    prepare,
    quantization_state,
    quantized_layers,
    set_observing,
)
from bitladder.quantization.layers import TWINS, QuantizedLayer
from bitladder.quantization.state_dict import load_quantization_state
from bitladder.quantization.trees import tensors
from bitladder.quantization.verify import output_sqnr


def images(*shape: int) -> Callable[[], Call]:
    return lambda: Call((torch.randn(*shape),), {})


def indices(*shape: int) -> Callable[[], Call]:
    return lambda: Call((torch.randint(0, 20, shape),), {})


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Call]]] = {
    "linear": (lambda: nn.Linear(5, 6), images(4, 5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=1, groups=2), images(3, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), images(3, 4, 7, 7)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 3, stride=(1, 2, 1), groups=2), images(3, 4, 5, 7, 6)),
    "reflecting": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        images(3, 4, 7, 7),
    ),
    "circular": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), images(3, 4, 9)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 4, 2, 1), images(3, 4, 9)),
    "transposed2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), images(3, 4, 5, 6)),
    "embedding": (lambda: nn.Embedding(20, 8, padding_idx=3), indices(4, 5)),
    "bag": (lambda: nn.EmbeddingBag(20, 8, padding_idx=3), indices(4, 5)),
    "lstm": (lambda: nn.LSTM(5, 7, 2, bidirectional=True), images(6, 3, 5)),
    "gru": (lambda: nn.GRU(5, 7, batch_first=True), images(3, 6, 5)),
}
CONVOLUTIONS = [name for name in KINDS if KINDS[name][0]().__class__.__name__.startswith("Conv")]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[nn.Module, Call]:
    torch.manual_seed(0)
    build, data = KINDS[request.param]
    return build(), data()


def outputs(model: nn.Module, call: Call) -> list[Tensor]:
    return tensors(model(*call.args, **call.kwargs))


def test_every_kind_with_a_public_float_layer_is_here() -> None:
    tested = {type(build()) for build, _ in KINDS.values()}
    assert {kind for kind in TWINS if kind.__module__.startswith("torch.nn.modules")} - tested == {
        torch.nn.modules.linear.NonDynamicallyQuantizableLinear
    }


def test_prepared_it_is_the_float_layer_to_the_bit(kind: tuple[nn.Module, Call]) -> None:
    model, call = kind
    plain = copy.deepcopy(model)
    parameters = dict(model.named_parameters())
    prepare(model, Recipe(method="qat"))
    assert isinstance(model, QuantizedLayer)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert all(parameters[name] is p for name, p in model.named_parameters())
    for training in (True, False):
        pairs = zip(
            outputs(model.train(training), call), outputs(plain.train(training), call), strict=True
        )
        assert all(torch.equal(x, y) for x, y in pairs)


def test_rounding_shows_and_every_parameter_trains(kind: tuple[nn.Module, Call]) -> None:
    model, call = kind
    before = outputs(model, call)[0].detach()
    prepare(model, Recipe(method="qat"))
    calibrate(model, [call])
    set_observing(model, True)
    model.train()
    assert not torch.equal(outputs(model, call)[0], before)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (outputs(model, call)[0] - 0.1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_converted_it_computes_what_training_did(method: Any, kind: tuple[nn.Module, Call]) -> None:
    model, call = kind
    plain = copy.deepcopy(model).eval()
    prepare(model.eval(), Recipe(method=method))
    calibrate(model, [call])
    reference = convert(model)
    assert output_sqnr(model, reference, [call]) > 100.0
    assert output_sqnr(plain, reference, [call]) > 35.0
    codes = [buffer for buffer in reference.buffers() if buffer.dtype == torch.int8]
    weights = [p for p in plain.parameters() if p.dim() > 1]
    assert sum(code.numel() for code in codes) >= sum(weight.numel() for weight in weights)
    assert not list(reference.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_dynamic_quantizes_every_kind_of_layer(name: str) -> None:
    build, data = KINDS[name]
    model, call = nn.ModuleList([build()]), data()
    plain = copy.deepcopy(model[0])
    (plan,) = prepare(model.eval(), Recipe(method="dynamic"))
    assert plan.quantized
    layer = model[0]
    calibrate(layer, [call])
    assert output_sqnr(layer, convert(layer), [call]) > (100.0 if name in CONVOLUTIONS else 40.0)
    assert output_sqnr(plain, convert(layer), [call]) > 35.0


def test_ranges_survive_a_checkpoint(kind: tuple[nn.Module, Call]) -> None:
    model, call = kind
    fresh = copy.deepcopy(model)
    for layer in (model, fresh):
        prepare(layer.eval(), Recipe(method="ptq"))
    calibrate(model, [call])
    load_quantization_state(fresh, quantization_state(model))
    pairs = zip(outputs(model, call), outputs(fresh, call), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)


def test_a_layer_that_only_stores_codes_says_why() -> None:
    model = nn.ModuleDict({name: build() for name, (build, _) in KINDS.items()})
    prepare(model, Recipe(method="ptq"))
    weight_only = {
        name for name, layer in quantized_layers(model).items() if layer.kernel == "weight-only"
    }
    assert weight_only == {"embedding", "bag", "lstm", "gru"}
    for name, layer in quantized_layers(model).items():
        assert bool(layer.why_weight_only) == (name in weight_only)


def test_a_quantized_recurrent_layer_refuses_a_packed_sequence() -> None:
    model, x = nn.LSTM(5, 7), torch.randn(6, 3, 5)
    prepare(model.eval(), Recipe(method="dynamic"))
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 4, 2]))
    model(packed)  # training takes it
    calibrate(model, [x])
    model(packed)
    with pytest.raises(UserError, match="a quantized LSTM takes no packed sequence"):
        convert(model)(packed)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Embedding(9, 4, max_norm=1.0), "max_norm changes the rows"),
        (nn.EmbeddingBag(9, 4, sparse=True), "no sparse gradient"),
        (nn.Conv3d(4, 8, 3, groups=4), "a depthwise Conv3d is slower in int8"),
    ],
)
def test_a_layer_that_had_better_stay_float_says_why(layer: nn.Module, reason: str) -> None:
    plans = prepare(nn.ModuleList([layer, nn.Linear(2, 2)]), Recipe(method="ptq"))
    assert [plan.quantized for plan in plans] == [False, True]
    assert reason in str(plans[0].reason)
    assert not isinstance(layer, QuantizedLayer)


def test_a_table_tied_to_a_linear_stays_tied_and_is_rounded_alike() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 8)
            self.head = nn.Linear(8, 20, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x))

    torch.manual_seed(0)
    model, x = Tied(), torch.randint(0, 20, (4, 6))
    prepare(model, Recipe(method="qat"))
    calibrate(model, [x])
    set_observing(model, True)
    model.train()(x).square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert model.head.weight is model.table.weight
    model(x)  # the ranges follow the step
    reference = convert(model.eval())
    table, head = reference.get_submodule("table"), reference.get_submodule("head")
    assert torch.equal(table.get_buffer("weight_codes"), head.get_buffer("weight_codes"))
    assert output_sqnr(model, reference, [Call((x,), {})]) > 60.0


def test_a_norm_behind_an_embedding_is_not_folded_into_it() -> None:
    model, x = nn.Sequential(nn.Embedding(20, 8), nn.BatchNorm1d(8)), torch.randint(0, 20, (4,))
    prepare(model, Recipe(method="ptq"), example_args=(x,))
    assert quantized_layers(model)["0"].batch_norm is None
