from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitladder.quantization import Call, Deployment, Recipe, calibrate, convert, export, prepare
from bitladder.quantization.trees import tensors
from bitladder.quantization.verify import output_sqnr


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from([nn.LSTM, nn.GRU]),
    layers=st.integers(1, 2),
    bias=st.booleans(),
    batch_first=st.booleans(),
    bidirectional=st.booleans(),
    batched=st.booleans(),
    given_states=st.booleans(),
)
def test_any_recurrent_layer_gives_what_the_float_one_does(
    kind: type[nn.LSTM] | type[nn.GRU],
    layers: int,
    bias: bool,
    batch_first: bool,
    bidirectional: bool,
    batched: bool,
    given_states: bool,
) -> None:
    torch.manual_seed(0)
    model = kind(
        5, 7, layers, bias=bias, batch_first=batch_first, bidirectional=bidirectional
    ).eval()
    x = torch.randn(4, 6, 5) if batched else torch.randn(6, 5)
    samples = [4 if batch_first else 6] if batched else []
    states = [torch.randn(layers * (1 + bidirectional), *samples, 7) for _ in range(2)]
    hx = None if not given_states else tuple(states) if kind is nn.LSTM else states[0]
    prepare(model, Recipe(method="ptq"))
    calibrate(model, [Call((x, hx), {})])
    y, expected = convert(model)(x, hx), model(x, hx)
    for output, other in zip(tensors(y), tensors(expected), strict=True):
        torch.testing.assert_close(output, other, rtol=1e-4, atol=1e-5)
    assert type(y[1]) is type(expected[1])


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_an_lstm_with_a_projection_converts() -> None:
    torch.manual_seed(0)
    model, x = nn.LSTM(5, 7, 2, proj_size=3).eval(), torch.randn(6, 4, 5)
    prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    torch.testing.assert_close(convert(model)(x), model(x), rtol=1e-4, atol=1e-5)


def test_every_row_of_every_matrix_has_a_scale_of_its_own() -> None:
    model, x = nn.GRU(5, 7), torch.randn(6, 4, 5)
    rows = torch.cat([p.abs().amax(1) for p in model.parameters() if p.dim() == 2])
    prepare(model.eval(), Recipe(method="ptq"))
    calibrate(model, [x])
    scale = model.weight_quantize.scale  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(scale, rows / 127.5)


def test_a_step_that_fails_leaves_the_float_weights() -> None:
    model: Any = nn.LSTM(5, 7)
    prepare(model.eval(), Recipe(method="ptq"))
    calibrate(model, [torch.randn(6, 4, 5)])
    with pytest.raises(RuntimeError):
        model(torch.randn(6, 4, 3))
    assert all(x is y for x, y in zip(model._flat_weights, model.parameters(), strict=True))


class Tagger(nn.Module):
    """A recurrent layer under a head."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], width: int) -> None:
        super().__init__()
        self.rnn = kind(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


@pytest.mark.vnni
def test_an_lstm_is_stored_as_codes(deploy_model: Callable[..., Deployment], tmp_path: Any) -> None:
    torch.manual_seed(0)
    model, x = Tagger(nn.LSTM, 128), torch.randn(4, 6, 128)
    weights = sum(p.numel() for p in model.parameters())
    deployment = deploy_model(model, Call((x,), {}), "dynamic")
    assert [record["kernel"] for record in deployment.layers] == ["weight-only", "int8"]
    assert "loop" in deployment.layers[0]["kernel_reason"]
    assert deployment.path.stat().st_size < weights + 200_000
    assert output_sqnr(model, deployment.run, [Call((torch.randn(7, 6, 128),), {})]) > 35.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_the_artifact_is_less_than_half_of_the_float_one(
    kind: Any, deploy_model: Callable[..., Deployment], tmp_path: Any
) -> None:
    torch.manual_seed(0)
    model, x = Tagger(kind, 128), torch.randn(4, 6, 128)
    export(model.eval(), x, tmp_path / "model_float.pt2")
    deployment = deploy_model(model, Call((x,), {}))
    size = (tmp_path / "model_float.pt2").stat().st_size
    assert deployment.path.stat().st_size < 0.5 * size
