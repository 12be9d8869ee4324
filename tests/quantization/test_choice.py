"""Every grid that can be chosen: against torchao, through conversion, and down to the kernels."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchao.quantization.quant_primitives import (
    MappingType,
    _fake_quantize_affine,
    choose_qparams_affine,
)

from bitladder.errors import UserError
from bitladder.quantization import (
    Activations,
    Call,
    MinMaxObserver,
    Recipe,
    Scheme,
    Weights,
    calibrate,
    convert,
    deploy,
    load_quantization_state,
    prepare,
    quantization_state,
)
from bitladder.quantization.choice import why_no_kernel
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize
from bitladder.quantization.recipe import Method
from bitladder.quantization.scheme import SMALLEST_SCALE
from bitladder.quantization.verify import output_sqnr

from .layers.test_twins import KINDS

WEIGHTS = [
    Weights(bits=bits, symmetric=symmetric, per=per, group_size=2 if per == "group" else None)
    for bits in (2, 4, 8)
    for symmetric in (True, False)
    for per in ("tensor", "channel", "group")
]
INPUTS = [Activations(), Activations(bits=3), Activations(symmetric=True), Activations(per="none")]


def torchao(x: Tensor, scheme: Scheme, block: tuple[int, ...]) -> Tensor:
    """What torchao's primitives make of a tensor whose blocks share a scale."""
    mapping = MappingType.SYMMETRIC if scheme.symmetric else MappingType.ASYMMETRIC
    low, high, dtype = scheme.format.minimum, scheme.format.maximum, scheme.format.dtype
    scale, zero_point = choose_qparams_affine(
        x,
        mapping,
        cast(Any, block),
        dtype,
        low,
        high,
        eps=SMALLEST_SCALE,
        scale_dtype=torch.float32,
    )
    return _fake_quantize_affine(x, block, scale, zero_point, dtype, low, high)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    shape=st.sampled_from([(3, 8), (3, 8, 2), (5, 4, 3, 3)]),
    size=st.sampled_from([None, 0, 2, 4]),
)
def test_weights_are_rounded_as_by_torchao(
    seed: int, bits: int, symmetric: bool, shape: tuple[int, ...], size: int | None
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if size is None:
        chosen, block = Weights(bits=bits, symmetric=symmetric, per="tensor"), shape
    elif size == 0:
        chosen, block = Weights(bits=bits, symmetric=symmetric), (1, *shape[1:])
    else:
        chosen = Weights(bits=bits, symmetric=symmetric, per="group", group_size=size)
        block = (1, size, *shape[2:])
    quantize = FakeQuantize(chosen.scheme, MinMaxObserver(chosen.scheme), memoryless=True)
    quantize.calibrating = quantize.quantizing = True
    # The last bit of a scale may differ, and with it the code of what lies between two.
    y, expected = quantize(x), torchao(x, chosen.scheme, block)
    step = quantize.scale.max()
    assert ((y - expected).abs() <= step * 1.001).all()
    assert ((y - expected).abs() > 1e-5).float().mean() < 0.02


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), bits=st.integers(2, 8), rank=st.integers(1, 3))
def test_every_token_is_rounded_as_by_torchao(seed: int, bits: int, rank: int) -> None:
    x = torch.randn((2, 3, 16)[-rank:], generator=torch.Generator().manual_seed(seed))
    scheme = Activations(bits=bits, per="token").scheme
    assert scheme is not None
    quantize = DynamicQuantize(scheme)
    quantize.quantizing = True
    y, expected = quantize(x), torchao(x, scheme, (*[1] * (rank - 1), 16))
    assert ((y - expected).abs() > 1e-5).float().mean() < 0.03
    if rank > 1:  # a token's answer knows nothing of its batch
        assert torch.equal(quantize(x[:1]), y[:1])


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), bits=st.integers(2, 8), size=st.sampled_from([1, 2, 4]))
def test_the_gradient_of_a_group_is_straight_through_inside_its_own_range(
    seed: int, bits: int, size: int
) -> None:
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    scheme = Weights(bits=bits, per="group", group_size=size).scheme
    quantize = FakeQuantize(scheme, MinMaxObserver(scheme), memoryless=True)
    quantize.calibrating = quantize.quantizing = True
    quantize(x)
    quantize.scale = quantize.scale / 2  # now the larger half of the range is clipped
    upstream = torch.arange(24.0).reshape(3, 8)
    quantize(x).backward(upstream)
    step = quantize.scale.reshape(3, -1).repeat_interleave(size, 1)
    codes = torch.round(x.detach() / step)
    inside = (codes >= scheme.format.minimum) & (codes <= scheme.format.maximum)
    assert x.grad is not None
    assert torch.equal(x.grad, upstream * inside)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_every_layer_converts_to_what_was_simulated(kind: str, weights: Weights) -> None:
    torch.manual_seed(0)
    build, data = KINDS[kind]
    layer, activations = build(), INPUTS[WEIGHTS.index(weights) % len(INPUTS)]
    model, call = nn.ModuleList([nn.Linear(4, 2), layer]), data()
    recipe = Recipe(method="ptq", weights=weights, activations=activations)
    plans = prepare(model, recipe)
    if not plans[1].quantized:
        assert plans[1].reason is not None
        assert "group" in plans[1].reason
        return
    twin = model[1]
    calibrate(twin, [call])
    reference = convert(twin)
    assert output_sqnr(twin.eval(), reference, [call]) > 60.0


def net(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    if kind == "conv":
        layers = (nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 16, 3, groups=2))
        return nn.Sequential(*layers).eval(), torch.randn(4, 16, 8, 8)
    layers = (nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
    return nn.Sequential(*layers).eval(), torch.randn(8, 5, 32)


GROUPS = {"per": "group", "group_size": 8}
KERNELS: list[tuple[str, Method, dict[str, Any], dict[str, Any], str]] = [
    ("linear", "ptq", {"per": "tensor"}, {}, "int8"),
    ("linear", "dynamic", {"per": "tensor"}, {}, "int8"),
    ("conv", "ptq", {"per": "tensor"}, {"symmetric": True}, "int8"),
    ("linear", "ptq", {}, {"symmetric": True}, "int8"),
    ("linear", "dynamic", {}, {"symmetric": True}, "int8"),
    ("linear", "ptq", {"symmetric": False}, {}, "none"),
    ("conv", "ptq", {"symmetric": False}, {}, "none"),
    ("linear", "ptq", GROUPS, {}, "none"),
    ("linear", "ptq", {"bits": 4}, {}, "none"),
    ("conv", "ptq", {"bits": 4, **GROUPS}, {}, "none"),
    ("linear", "ptq", {}, {"bits": 4}, "none"),
    ("conv", "ptq", {}, {"bits": 4}, "none"),
    ("linear", "dynamic", {}, {"per": "token"}, "none"),
    ("linear", "dynamic", {"bits": 4, **GROUPS}, {"per": "token", "bits": 8}, "none"),
    ("linear", "ptq", {}, {"per": "none"}, "weight-only"),
    ("conv", "ptq", GROUPS, {"per": "none"}, "weight-only"),
]
QUICK = [0, 6, 10, 14]


def marks(index: int) -> list[pytest.MarkDecorator]:
    slow = [] if index in QUICK else [pytest.mark.slow]
    return [*slow, pytest.mark.vnni] if KERNELS[index][-1] == "int8" else slow


@pytest.mark.parametrize(
    ("kind", "method", "weights", "inputs", "kernel"),
    [pytest.param(*case, marks=marks(index), id=str(case)) for index, case in enumerate(KERNELS)],
)
def test_the_artifact_computes_what_was_simulated_and_the_record_says_with_what(
    kind: str, method: Method, weights: Any, inputs: Any, kernel: str, tmp_path: Path
) -> None:
    model, x = net(kind)
    recipe = Recipe(method=method, weights=Weights(**weights), activations=Activations(**inputs))
    plans = prepare(model, recipe, example_args=(x,))
    calibrate(model, [x])
    call = Call((x,), {})
    made = deploy(model, plans, [call], tmp_path / "model.pt2", min_sqnr_db=40.0)
    layers = [record for record in made.layers if record["quantized"]]
    assert [record["kernel"] for record in layers] == [kernel, kernel]
    assert all(bool(record["kernel_reason"]) == (kernel != "int8") for record in layers)
    assert made.int8_share == (1.0 if kernel == "int8" else 0.0)
    assert layers[0]["weight"]["bits"] == recipe.weights.bits
    assert layers[0]["weight"]["scheme"] == str(recipe.weights.scheme)


def test_what_has_no_kernel_is_known_from_the_grids() -> None:
    input = Activations().scheme
    assert input is not None
    assert why_no_kernel(Weights().scheme, input) is None
    for bits in range(2, 8):
        assert f"{bits} bits" in str(why_no_kernel(Weights(bits=bits).scheme, input))


def test_a_layer_whose_inputs_no_group_divides_stays_float_and_the_rest_does_not() -> None:
    model = nn.Sequential(nn.Linear(32, 10), nn.Linear(10, 4), nn.ConvTranspose1d(8, 2, 1))
    weights = Weights(per="group", group_size=8)
    plans = prepare(model, Recipe(method="qat", weights=weights))
    assert [plan.quantized for plan in plans] == [True, False, True]
    assert plans[1].reason == "a group of 8 does not divide its 10 inputs"


def test_per_token_leaves_convolutions_float() -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 1), nn.Linear(4, 4))
    recipe = Recipe(method="qat", activations=Activations(per="token"))
    assert [plan.quantized for plan in prepare(model, recipe)] == [False, True]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_the_state_of_every_grid_comes_back_and_fits_no_other(
    weights: Weights, tmp_path: Path
) -> None:
    old, x = net("linear")
    prepare(old, Recipe(method="ptq", weights=weights))
    calibrate(old, [x])
    torch.save(quantization_state(old), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    new, _ = net("linear")
    prepare(new, Recipe(method="ptq", weights=weights))
    load_quantization_state(new, state)
    assert torch.equal(new(x), old(x))
    other, _ = net("linear")
    prepare(other, Recipe(method="ptq", weights=Weights(bits=5)))
    with pytest.raises(UserError, match=r"rounds 0 to another grid .*weights and activations"):
        load_quantization_state(other, state)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Weights(bits=1), r"weights\.bits=1: write 2 to 8"),
        (lambda: Activations(bits=9), r"activations\.bits=9: write 2 to 8"),
        (lambda: Weights(per="token"), "per=token: write one of tensor, channel, group"),  # pyright: ignore[reportArgumentType]
        (lambda: Weights(per="group"), r"as in quantization\.weights\.group_size=32"),
        (lambda: Weights(per="group", group_size=0), "group_size=0: write how many"),
        (lambda: Weights(group_size=8), r"write quantization\.weights\.per=group"),
        (
            lambda: Recipe(method="ptq", activations=Activations(per="token")),
            "write quantization=dynamic",
        ),
        (
            lambda: Recipe(method="dynamic", activations=Activations(per="none")),
            "write quantization=ptq",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_what_to_write(make: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as error:
        make()
    assert "\n" not in str(error.value)
