import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitladder.errors import UserError
from bitladder.quantization import (
    Call,
    Recipe,
    calibrate,
    convert,
    deploy,
    float_copy,
    prepare,
    quantized_layers,
    set_observing,
    set_quantizing,
    watch,
)
from bitladder.quantization.recipe import Method
from bitladder.quantization.verify import output_sqnr

PTQ = Recipe(method="ptq")
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"]
EMBED, HEADS, SAMPLES = 8, 2, 3


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(EMBED, HEADS, **options)
    for parameter in layer.parameters():  # biases too are not 0
        nn.init.normal_(parameter, std=0.4)
    return layer


def encoder(layers: int = 2, **options: Any) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    settings = {"dropout": 0.1, "batch_first": True} | options
    layer = nn.TransformerEncoderLayer(EMBED, HEADS, 16, **settings)
    nested = settings["batch_first"] and not settings.get("norm_first", False)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=nested).eval()


def names() -> list[str]:
    linears = [*LINEARS, "linear1", "linear2"]
    return [f"layers.{i}.{linear}" for i in range(2) for linear in linears]


def assert_close(expected: Any, found: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@st.composite
def uses(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[Tensor, ...], dict[str, Any]]:
    """Options of an attention, its three inputs, and the keywords of a call."""
    kind = draw(st.sampled_from(["self", "cross", "other sizes"]))
    batched, batch_first = draw(st.booleans()), draw(st.booleans())
    options = {
        "bias": draw(st.booleans()),
        "add_bias_kv": draw(st.booleans()),
        "add_zero_attn": draw(st.booleans()),
        "batch_first": batch_first,
        "dropout": draw(st.sampled_from([0.0, 0.3])),
    }
    if kind == "other sizes":
        options |= {"kdim": 5, "vdim": 6}
    queries = 4
    keys = queries if kind == "self" else 7

    def sequence(length: int, size: int) -> Tensor:
        shape = (SAMPLES, length, size) if batch_first else (length, SAMPLES, size)
        return torch.randn(shape if batched else (length, size))

    torch.manual_seed(1)
    query = sequence(queries, EMBED)
    key = query if kind == "self" else sequence(keys, options.get("kdim", EMBED))
    value = query if kind == "self" else sequence(keys, options.get("vdim", EMBED))

    forbidden = torch.ones(queries, keys, dtype=torch.bool).triu(1)
    floating = draw(st.booleans())
    each = SAMPLES * HEADS if batched else HEADS
    masks: dict[str, Tensor | None] = {
        "none": None,
        "flat": forbidden,
        "flat, said to be causal": forbidden,
        "per head": forbidden.expand(each, -1, -1) & (torch.rand(each, queries, keys) < 0.7),
    }
    which = draw(st.sampled_from(list(masks)))
    padding = (torch.arange(keys) >= 2) if draw(st.booleans()) else None
    if padding is not None and batched:
        padding = padding & torch.tensor([[True], [False], [True]])

    def as_chosen(mask: Tensor | None) -> Tensor | None:
        if mask is None or not floating:
            return mask
        return torch.zeros(mask.shape).masked_fill(mask, float("-inf"))

    call = {
        "attn_mask": as_chosen(masks[which]),
        "key_padding_mask": as_chosen(padding),
        "is_causal": which.endswith("causal"),
        "need_weights": draw(st.booleans()),
        "average_attn_weights": draw(st.booleans()),
    }
    return options, (query, key, value), call


@settings(max_examples=150, deadline=None)
@given(use=uses(), mode=st.sampled_from(["training", "gradients", "no gradients"]))
def test_before_quantization_it_computes_what_the_original_does(use: Any, mode: str) -> None:
    options, inputs, call = use
    original = attention(**options).train(mode == "training")
    layer = deepcopy(original)
    prepare(layer, PTQ)
    assert list(quantized_layers(layer)) == ["q_proj", "k_proj", "v_proj", "out_proj"]
    outputs = []
    with torch.set_grad_enabled(mode != "no gradients"):  # without, the original's fast path
        for module in (original, layer):
            torch.manual_seed(2)  # dropout
            outputs.append(module(*inputs, **call))
    assert_close(*outputs)


def test_in_bf16_autocast_it_computes_what_the_original_does() -> None:
    original, x = attention(), torch.randn(4, SAMPLES, EMBED)
    layer = deepcopy(original)
    prepare(layer, PTQ)
    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
    with torch.autocast("cpu", torch.bfloat16):
        for weights in (True, False):
            expected = original(x, x, x, attn_mask=mask, need_weights=weights)[0]
            found = layer(x, x, x, attn_mask=mask, need_weights=weights)[0]
            assert found.dtype == expected.dtype == torch.bfloat16
            torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("options", [{}, {"kdim": 5, "vdim": 6}, {"add_bias_kv": True}])
def test_parameters_and_state_dict_stay(options: dict[str, Any]) -> None:
    layer, fresh = attention(**options), attention(**options)
    parameters = dict(layer.named_parameters())
    state = deepcopy(layer.state_dict())
    prepare(layer, PTQ)
    assert all(layer.get_parameter(name) is p for name, p in parameters.items())
    assert layer.state_dict().keys() == state.keys()
    nn.init.zeros_(layer.out_proj.weight)
    layer.load_state_dict(state, strict=True)
    fresh.load_state_dict(layer.state_dict(), strict=True)
    assert_close(dict(fresh.named_parameters()), parameters)


def test_a_projection_is_a_linear_on_its_rows_of_the_packed_weight() -> None:
    layer = attention()
    prepare(layer, PTQ)
    for i, role in enumerate("qkv"):
        projection = layer.get_submodule(f"{role}_proj")
        assert isinstance(projection, nn.Linear)
        assert not list(projection.parameters())
        assert_close(layer.in_proj_weight[i * EMBED : (i + 1) * EMBED], projection.weight)
        with torch.no_grad():
            nn.init.constant_(projection.weight, i)
            nn.init.constant_(projection.bias, -i)
    assert layer.in_proj_weight[:, 0].tolist() == [0.0] * EMBED + [1.0] * EMBED + [2.0] * EMBED
    assert layer.in_proj_bias.tolist() == [0.0] * EMBED + [-1.0] * EMBED + [-2.0] * EMBED


@pytest.mark.parametrize("options", [{}, {"norm_first": True}, {"activation": "gelu"}])
@pytest.mark.parametrize("batch_first", [True, False])
def test_an_encoder_calls_every_linear_also_in_eval_mode(
    options: dict[str, Any], batch_first: bool
) -> None:
    model = encoder(batch_first=batch_first, **options)
    x = torch.randn(SAMPLES, 5, EMBED)
    original = deepcopy(model)
    prepare(model, PTQ)
    with torch.no_grad():
        assert_close(original(x), model(x))
    assert list(quantized_layers(model)) == names()
    calibrate(model, [x])  # refuses layers that never ran


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_encoder_trains_as_the_original_does_with_the_same_seed(batch_first: bool) -> None:
    model = encoder(batch_first=batch_first, dropout=0.3).train()
    x = torch.randn(SAMPLES, 5, EMBED)
    original = deepcopy(model)
    prepare(model, PTQ)
    gradients = []
    for module in (original, model):
        torch.manual_seed(1)
        module(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # of PyTorch's own encoder
@pytest.mark.parametrize("only", [[], ["layers.1.linear2"]])
def test_a_padded_batch_is_not_turned_into_a_nested_tensor(only: list[str]) -> None:
    model, x = encoder(), torch.randn(SAMPLES, 5, EMBED)
    padding = torch.arange(5) >= torch.tensor([[3], [5], [4]])
    original = deepcopy(model)
    prepare(model, PTQ, only=only)
    with torch.no_grad():
        expected = original(x, src_key_padding_mask=padding)
        found = model(x, src_key_padding_mask=padding)
    assert_close(expected[~padding], found[~padding])
    calibrate(model, [Call((x,), {"src_key_padding_mask": padding})])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # of PyTorch's own encoder
def test_a_nested_tensor_is_refused() -> None:
    model, x = encoder(), torch.randn(SAMPLES, 5, EMBED)
    prepare(model.layers[0], PTQ)
    padding = torch.arange(5) >= torch.tensor([[3], [5], [4]])
    with torch.no_grad(), pytest.raises(UserError, match="enable_nested_tensor=False"):
        model(x, src_key_padding_mask=padding)


def test_a_decoder_computes_what_the_original_does_and_calls_every_linear() -> None:
    torch.manual_seed(0)
    model = nn.TransformerDecoderLayer(EMBED, HEADS, 16, batch_first=True)
    original = deepcopy(model)
    prepare(model, PTQ)
    inputs = torch.randn(SAMPLES, 4, EMBED), torch.randn(SAMPLES, 6, EMBED)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    for training in (True, False):
        outputs = []
        for module in (original, model):
            torch.manual_seed(1)
            outputs.append(module.train(training)(*inputs, tgt_mask=mask, tgt_is_causal=True))
        assert_close(*outputs)
    with watch(model) as observed:
        model(*inputs)
    others = [name.replace("self_attn", "multihead_attn") for name in LINEARS]
    assert observed.executed == {*LINEARS, *others, "linear1", "linear2"}


def test_every_linear_has_a_plan_and_answers_to_patterns() -> None:
    model = encoder()
    plans = prepare(model, PTQ, skip=["layers.0.self_attn.k_proj", "layers.1.self_attn.*"])
    linears = {plan.name: plan for plan in plans if "norm" not in plan.name}
    assert sorted(linears) == sorted(names())
    skipped = {"layers.0.self_attn.k_proj", *(f"layers.1.{name}" for name in LINEARS)}
    assert {name for name, plan in linears.items() if not plan.quantized} == skipped
    assert all(linears[name].reason == "named in skip" for name in skipped)
    assert set(quantized_layers(model)) == set(names()) - skipped
    assert type(model.layers[1].self_attn) is nn.MultiheadAttention


def test_a_subclass_of_attention_stays_as_it_is_and_is_listed() -> None:
    class Mine(nn.MultiheadAttention):
        pass

    model = nn.ModuleDict({"attend": Mine(EMBED, HEADS), "head": nn.Linear(EMBED, 2)})
    plans = prepare(model, PTQ)
    assert [(plan.name, plan.reason) for plan in plans] == [
        ("attend", "Mine is a subclass of MultiheadAttention"),
        ("head", None),
    ]
    assert type(model["attend"]) is Mine


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"attn_mask": torch.zeros(1, 5)}, r"attn_mask has shape \(1, 5\).*needs \(5, 5\)"),
        ({"attn_mask": torch.zeros(2, 5, 5)}, r"attn_mask .* needs \(6, 5, 5\)"),
        ({"key_padding_mask": torch.zeros(1, 5)}, r"key_padding_mask .* needs \(3, 5\)"),
        ({"is_causal": True}, "give attn_mask too"),
    ],
)
def test_masks_that_do_not_fit_are_refused(call: dict[str, Any], words: str) -> None:
    layer, x = attention(batch_first=True), torch.randn(SAMPLES, 5, EMBED)
    prepare(layer, PTQ)
    with pytest.raises(UserError, match=words):
        layer(x, x, x, **call)


def test_an_optimizer_made_before_trains_all_rows_of_the_packed_weight() -> None:
    layer, x = attention(), torch.randn(4, SAMPLES, EMBED)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    prepare(layer, Recipe(method="qat"))
    set_observing(layer, True)
    set_quantizing(layer, True)
    before = layer.in_proj_weight.detach().clone()
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = (layer(x, x, x)[0] - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert bool((layer.in_proj_weight != before).any(1).all())


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 5, "vdim": 6}])
@pytest.mark.parametrize("skip", [[], ["k_proj"], ["?_proj"], ["out_proj"]])
def test_converted_it_computes_what_the_fake_quantized_one_does(
    options: dict[str, Any], skip: list[str]
) -> None:
    layer = attention(batch_first=True, **options).eval()
    sizes = (EMBED, options.get("kdim", EMBED), options.get("vdim", EMBED))
    call = Call(tuple(torch.randn(SAMPLES, 5, size) for size in sizes), {})
    prepare(layer, PTQ, skip=skip)
    calibrate(layer, [call])
    before = deepcopy(layer.state_dict())
    reference = convert(layer)
    assert output_sqnr(layer, reference, [call]) > 60
    assert 15 < output_sqnr(float_copy(layer), layer, [call]) < 60
    assert not [name for name in reference.state_dict() if "in_proj" in name]
    assert_close(before, layer.state_dict())


def test_a_copy_and_a_pickle_use_their_own_weights() -> None:
    layer, x = attention(), torch.randn(4, SAMPLES, EMBED)
    prepare(layer, PTQ)
    expected = layer(x, x, x)[0]
    for copy in (deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        with torch.no_grad():
            nn.init.zeros_(copy.in_proj_weight)
        assert not torch.allclose(copy(x, x, x)[0], expected)
    assert_close(expected, layer(x, x, x)[0])


class SequenceFirst(nn.Module):
    """An encoder of sequence-first layers in a model whose batch comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder(batch_first=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x.transpose(0, 1)).transpose(0, 1)


def sequences(samples: int) -> Call:
    return Call((torch.randn(samples, 6, EMBED),), {})


def padded(samples: int) -> Call:
    padding = torch.arange(6) >= 4 + torch.arange(samples)[:, None] % 3
    return Call(sequences(samples).args, {"src_key_padding_mask": padding})


def sources(samples: int) -> Call:
    return Call((torch.randn(samples, 4, EMBED), torch.randn(samples, 6, EMBED)), {})


def decoder() -> nn.Module:
    return nn.TransformerDecoderLayer(EMBED, HEADS, 16, batch_first=True).eval()


def train(model: nn.Module, calls: list[Call]) -> None:
    set_observing(model, True)
    set_quantizing(model, True)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01)
    for call in calls:
        optimizer.zero_grad()
        model(*call.args, **call.kwargs).square().mean().backward()
        optimizer.step()
    set_observing(model.eval(), False)


@pytest.mark.vnni
@pytest.mark.parametrize(
    ("method", "build", "call", "linears"),
    [
        ("ptq", lambda: encoder(layers=1), padded, 6),
        pytest.param("ptq", encoder, padded, 12, marks=pytest.mark.slow),
        pytest.param("dynamic", encoder, sequences, 12, marks=pytest.mark.slow),
        pytest.param("qat", SequenceFirst, sequences, 12, marks=pytest.mark.slow),
        pytest.param("ptq", decoder, sources, 10, marks=pytest.mark.slow),
    ],
)
def test_every_linear_gets_an_int8_kernel_at_any_batch_size(
    method: Method,
    build: Callable[[], nn.Module],
    call: Callable[[int], Call],
    linears: int,
    tmp_path: Path,
) -> None:
    model, calls = build(), [call(4) for _ in range(3)]
    plans = prepare(model, Recipe(method=method))
    if method == "qat":
        train(model, calls)
    else:
        calibrate(model, calls)
    deployment = deploy(model, plans, calls, tmp_path / "model.pt2", min_sqnr_db=20.0)
    int8 = [layer["name"] for layer in deployment.layers if layer.get("kernel") == "int8"]
    assert len(int8) == linears
    assert set(int8) == set(quantized_layers(model))
    assert deployment.output_sqnr_db > 60
    assert output_sqnr(model, deployment.run, [call(7)]) > 60
