from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitladder.quantization import Call, Deployment, Recipe, calibrate, convert, prepare
from bitladder.quantization.verify import output_sqnr


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """Two dimensions of a transposed convolution; its output has at least one position."""
    pair = st.tuples(*[st.integers(1, 4)] * 2)
    kernel, stride, dilation = draw(pair), draw(pair), draw(st.tuples(*[st.integers(1, 3)] * 2))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    return {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        # An input has at least 3 positions.
        "padding": tuple(draw(st.integers(0, (r - 1 + 2 * s) // 2)) for r, s in zip(reach, stride)),  # noqa: B905
        "output_padding": tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        ),
    }


@settings(max_examples=60, deadline=None)
@given(
    geometry=geometries(),
    groups=st.sampled_from([1, 2, 4]),
    one_channel=st.booleans(),
    batched=st.booleans(),
    rank=st.integers(1, 2),
    bias=st.booleans(),
)
def test_any_geometry_is_the_transposed_convolution(
    geometry: dict[str, tuple[int, ...]],
    groups: int,
    one_channel: bool,
    batched: bool,
    rank: int,
    bias: bool,
) -> None:
    torch.manual_seed(0)
    channels, groups = (1, 1) if one_channel else (4, groups)
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d)[rank - 1]
    options = {name: values[:rank] for name, values in geometry.items()}
    model = kind(channels, 8, groups=groups, bias=bias, **options)  # pyright: ignore[reportArgumentType]
    x = torch.randn(*([2] if batched else []), channels, *(3, 5)[:rank])
    prepare(model.eval(), Recipe(method="ptq"))
    calibrate(model, [x])
    y, expected = convert(model)(x), model(x)
    assert y.shape == expected.shape
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [[9, 13], [10, 14], [2, 4, 10, 13]])
def test_an_output_size_is_obeyed(size: list[int]) -> None:
    torch.manual_seed(0)
    model, x = nn.ConvTranspose2d(4, 4, 3, 2, 1), torch.randn(2, 4, 5, 7)
    prepare(model.eval(), Recipe(method="ptq"))
    calibrate(model, [x])
    y = convert(model)(x, output_size=size)
    assert list(y.shape[2:]) == size[-2:]
    torch.testing.assert_close(y, model(x, output_size=size), rtol=1e-4, atol=1e-5)


def test_every_output_channel_has_a_scale_of_its_own() -> None:
    model, x = nn.ConvTranspose2d(4, 6, 3, groups=2), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        model.weight[:2, 1] *= 100.0  # of the first group the second output: channel 1
        model.weight[2:, 2] *= 10.0  # of the second group the third: channel 5
    weight = model.weight.detach().clone()
    prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    scale = model.weight_quantize.scale  # pyright: ignore[reportAttributeAccessIssue]
    parts = [weight[group * 2 : group * 2 + 2, out] for group in (0, 1) for out in range(3)]
    torch.testing.assert_close(scale, torch.stack([part.abs().max() for part in parts]) / 127.5)


class Decoder(nn.Module):
    """Transposed convolutions over images and time, with BatchNorm behind."""

    def __init__(self) -> None:
        super().__init__()
        self.up1 = nn.ConvTranspose2d(8, 8, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.up2 = nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1, groups=2)
        self.up3 = nn.ConvTranspose1d(8, 4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up3(torch.relu(self.up2(torch.relu(self.norm(self.up1(x))))).mean(2))


@pytest.mark.vnni
def test_a_transposed_convolution_runs_in_int8(deploy_model: Callable[..., Deployment]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(4, 8, 4, 2, 1))
    deployment = deploy_model(model, Call((torch.randn(4, 4, 5, 5),), {}))
    assert deployment.layers[0]["kernel"] == "int8"
    assert deployment.output_sqnr_db > 40.0


@pytest.mark.slow
def test_a_decoder_runs_in_int8(deploy_model: Callable[..., Deployment]) -> None:
    torch.manual_seed(0)
    model, x = Decoder().eval(), torch.randn(4, 8, 5, 5)
    deployment = deploy_model(model, Call((x,), {}))
    assert [record.get("kernel") for record in deployment.layers] == ["int8", None, "int8", "int8"]
    assert deployment.layers[1]["reason"] == "folded into up1"
    assert output_sqnr(model, deployment.run, [Call((torch.randn(7, 8, 5, 5),), {})]) > 35.0


@pytest.mark.slow
def test_a_last_layer_that_needs_uneven_padding_deploys(
    deploy_model: Callable[..., Deployment],
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(1, 3, 3, 2, dilation=2, output_padding=1))
    deployment = deploy_model(model, Call((torch.randn(4, 1, 5, 5),), {}))
    assert deployment.layers[0]["kernel"] == "int8"
    assert deployment.output_sqnr_db > 40.0
