"""One fp8 linear against arithmetic by hand, and what it leaves alone."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.precision.fp8 import linear
from bitladder.precision.fp8.linear import Fp8Linear
from bitladder.precision.fp8.report import LinearRecord, Seen
from bitladder.precision.fp8.upstream import Float8Linear, Recipe, float8_template

RECIPES: list[Recipe] = ["tensorwise", "rowwise", "rowwise_with_gw_hp"]
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def fp8(linear: nn.Linear, recipe: Recipe = "tensorwise") -> Fp8Linear:
    record = LinearRecord("linear", linear.in_features, linear.out_features)
    return Fp8Linear.adopt(linear, float8_template(recipe, emulate=True), record)


def rounded(x: Tensor, dtype: torch.dtype, dim: int | None = None) -> Tensor:
    """`x` scaled so that its largest value is the format's, rounded to the format, scaled back.

    With `dim`, rows along it have scales of their own, which are powers of two.
    """
    x = x.double()
    amax = x.abs().amax() if dim is None else x.abs().amax(dim, keepdim=True)
    scale = (torch.finfo(dtype).max / amax).float()
    if dim is not None:
        scale = torch.exp2(torch.floor(torch.log2(scale)))
    return (x.float() * scale).to(dtype).double() / scale.double()


def by_hand(recipe: str, x: Tensor, w: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, input gradient and weight gradient of `x @ w.T`, in float64."""
    if recipe == "tensorwise":
        x8, w8, g8 = rounded(x, E4M3), rounded(w, E4M3), rounded(g, E5M2)
        return x8 @ w8.T, g8 @ w8, g8.T @ x8
    output = rounded(x, E4M3, 1) @ rounded(w, E4M3, 1).T
    if recipe == "rowwise":
        gradient = rounded(g, E4M3, 1) @ rounded(w, E4M3, 0)
        return output, gradient, rounded(g, E4M3, 0).T @ rounded(x, E4M3, 0)
    scale = torch.exp2(torch.floor(torch.log2((448 / w.double().abs().amax()).float())))
    w8 = (w.float() * scale).to(E4M3).double() / scale.double()
    return output, rounded(g, E4M3, 1) @ w8, g.double().T @ x.double()


@pytest.mark.parametrize("recipe", RECIPES)
def test_forward_and_backward_are_what_casts_by_hand_give(recipe: Recipe) -> None:
    torch.manual_seed(0)
    layer = fp8(nn.Linear(32, 48, bias=False), recipe)
    x = (torch.randn(64, 32) * torch.logspace(-2, 2, 64)[:, None]).requires_grad_()
    g = torch.randn(64, 48) * torch.logspace(-3, 3, 48)
    y = layer(x)
    y.backward(g)
    assert x.grad is not None
    expected = by_hand(recipe, x.detach(), layer.weight.detach(), g)
    for found, wanted in zip((y, x.grad, layer.weight.grad), expected, strict=True):
        assert found is not None
        error = (found.double() - wanted).norm() / wanted.norm()
        assert error < 1e-6
    # The comparison can fail: unrounded products are elsewhere.
    assert (y.double() - x.double() @ layer.weight.double().T).norm() > 0.01 * y.norm()


def test_the_bias_is_added_in_the_compute_type() -> None:
    layer = fp8(nn.Linear(16, 16))
    with torch.no_grad():
        layer.weight.zero_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(torch.ones(16, 16))
    assert y.dtype == torch.bfloat16
    assert torch.equal(y[0], layer.bias.bfloat16())


@pytest.mark.parametrize("shape", [(16,), (3, 16), (2, 5, 16), (31, 16)])
def test_any_number_of_tokens_is_padded_to_sixteen(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, reference = fp8(nn.Linear(16, 32)), fp8(nn.Linear(16, 32))
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(*shape, requires_grad=True)
    wide = torch.zeros(32, 16)
    tokens = x.numel() // 16
    wide[:tokens] = x.detach().reshape(-1, 16)
    wide.requires_grad_()
    y, z = layer(x), reference(wide)
    assert y.shape == (*shape[:-1], 32)
    assert torch.allclose(y.reshape(tokens, 32), z[:tokens], atol=1e-6)
    y.square().sum().backward()
    z[:tokens].square().sum().backward()
    assert x.grad is not None
    assert wide.grad is not None
    assert x.grad.shape == shape
    assert torch.allclose(x.grad.reshape(tokens, 16), wide.grad[:tokens], atol=1e-5)
    assert layer.weight.grad is not None
    assert reference.weight.grad is not None
    assert torch.allclose(layer.weight.grad, reference.weight.grad, atol=1e-4)


def test_torchao_multiplies_aligned_shapes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[torch.Size] = []

    def forward(layer: Any, input: Tensor) -> Tensor:
        shapes.append(input.shape)
        return Float8Linear.forward(layer, input)

    monkeypatch.setattr(linear, "_FLOAT8_FORWARD", forward)
    layer = fp8(nn.Linear(16, 32))
    for tokens in (1, 16, 17):
        layer(torch.ones(tokens, 16))
    assert [tuple(shape) for shape in shapes] == [(16, 16), (16, 16), (32, 16)]


def test_an_empty_batch_runs() -> None:
    layer = fp8(nn.Linear(16, 32))
    y = layer(torch.ones(0, 4, 16, requires_grad=True))
    y.sum().backward()
    assert y.shape == (0, 4, 32)
    assert not layer.fp8_record.executed


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("training", [True, False])
def test_without_gradients_it_is_the_plain_linear(
    recipe: Recipe, context: Any, training: bool
) -> None:
    linear = nn.Linear(16, 16)
    x = torch.randn(16, 16)
    with context(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = linear(x)
        layer = fp8(linear, recipe).train(training)
        assert torch.equal(layer(x), expected)
    assert not layer.fp8_record.executed


def test_in_eval_mode_gradients_are_those_of_the_plain_linear() -> None:
    layer = fp8(nn.Linear(16, 16)).eval()
    x = torch.randn(16, 16, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones(16, 16) @ layer.weight)
    assert not layer.fp8_record.executed


def test_a_pass_with_gradients_is_noted() -> None:
    layer = fp8(nn.Linear(16, 16))
    layer(torch.ones(2, 16))
    assert layer.fp8_record.executed


def test_a_watched_layer_computes_as_before_and_notes_how_it_was_called() -> None:
    linear = nn.Linear(16, 16)
    x = torch.randn(4, 8, 16)
    expected = linear(x)
    layer = fp8(linear)
    layer.fp8_mode = "watch"
    assert torch.equal(layer(x), expected)
    assert layer.fp8_record.seen == Seen(tokens=32, dtype=torch.float32, compiled=False)
    assert not layer.fp8_record.executed


def test_it_is_copied_and_pickled_and_released() -> None:
    layer = fp8(nn.Linear(16, 16))
    x = torch.randn(16, 16)
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)
    layer.release()
    plain = nn.Linear(16, 16)
    assert type(layer) is type(plain)
    assert vars(layer).keys() == vars(plain).keys()
