import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitladder.quantization import Call, Deployment, Recipe, calibrate, convert, prepare
from bitladder.quantization.recipe import METHODS
from bitladder.quantization.verify import output_sqnr

PADDING_MODES: st.SearchStrategy[Any] = st.sampled_from(
    ["zeros", "reflect", "replicate", "circular"]
)


def require_equal(model: nn.Module, x: torch.Tensor) -> None:
    """The converted layer gives, at every position, what the rounded one does."""
    for method in METHODS:
        layer = copy.deepcopy(model)
        prepare(layer.eval(), Recipe(method=method))
        calibrate(layer, [x])
        y, expected = convert(layer)(x), layer(x)
        assert y.shape == expected.shape
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 3),
    dilation=st.tuples(*[st.integers(1, 2)] * 3),
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    groups=st.sampled_from([1, 2]),
    mode=PADDING_MODES,
    batched=st.booleans(),
)
def test_any_convolution_of_volumes(
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    kernel: tuple[int, ...],
    groups: int,
    mode: Any,
    batched: bool,
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(4, 4, kernel, stride, padding, dilation, groups, padding_mode=mode)  # pyright: ignore[reportArgumentType]
    require_equal(layer, torch.randn(*([2] if batched else []), 4, 5, 6, 7))


@settings(max_examples=30, deadline=None)
@given(
    rank=st.integers(1, 2),
    stride=st.integers(1, 2),
    padding=st.integers(0, 3) | st.just("valid"),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.sampled_from([1, 3]),
    mode=PADDING_MODES,
)
def test_any_padding_of_signals_and_images(
    rank: int, stride: int, padding: int | str, groups: int, kernel: int, mode: Any
) -> None:
    torch.manual_seed(0)
    kind = (nn.Conv1d, nn.Conv2d)[rank - 1]
    layer = kind(4, 8, kernel, stride, padding, groups=groups, padding_mode=mode)
    require_equal(layer, torch.randn(2, 4, *[7, 6][:rank]))


@pytest.mark.parametrize("kernel", [1, 3])
def test_volumes_of_one_channel(kernel: int) -> None:
    torch.manual_seed(0)
    require_equal(nn.Conv3d(1, 4, kernel, padding="same"), torch.randn(2, 1, 5, 5, 5) + 1)


class Video(nn.Module):
    """Convolutions of volumes, a depthwise one and padding by reflection among them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.Conv3d(8, 8, 3, padding=1, groups=8),
            nn.Conv3d(8, 16, (3, 3, 3), stride=2, padding=(1, 0, 1), groups=2),
        )
        self.image = nn.Conv2d(16, 8, 3, padding=1, padding_mode="reflect")
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.image(self.features(x).mean(2))).mean((2, 3)))


@pytest.mark.vnni
def test_a_convolution_of_volumes_runs_in_int8(deploy_model: Callable[..., Deployment]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1))
    deployment = deploy_model(model, Call((torch.randn(4, 4, 3, 5, 5),), {}))
    assert deployment.layers[0]["kernel"] == "int8"
    assert deployment.output_sqnr_db > 40.0


@pytest.mark.parametrize("low", [0.0, -1.0, 5.0])
def test_a_range_that_comes_at_run_time_follows_every_batch(low: float) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 3, padding=1)
    plain = copy.deepcopy(layer)
    prepare(layer.eval(), Recipe(method="dynamic"))
    calibrate(layer, [torch.rand(2, 3, 9, 9)])
    reference = convert(layer)
    for factor in (1e-3, 1.0, 1e3):
        x = (torch.rand(2, 3, 9, 9) + low) * factor
        assert output_sqnr(plain, reference, [Call((x,), {})]) > 35.0
        torch.testing.assert_close(reference(x), layer(x), rtol=1e-4, atol=1e-4 * factor)
    zero = torch.zeros(2, 3, 9, 9)
    torch.testing.assert_close(reference(zero), layer(zero))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 8])
def test_a_range_that_comes_at_run_time_gets_int8_kernels(
    rank: int, channels: int, deploy_model: Callable[..., Deployment]
) -> None:
    torch.manual_seed(0)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    layers = [kind(channels, 8, 3, padding=1), nn.ReLU(), kind(8, 4, 3, stride=2, bias=False)]
    model = nn.Sequential(*layers)
    x = torch.randn(4, channels, *[7] * rank)
    deployment = deploy_model(model, Call((x,), {}), "dynamic")
    assert [record["kernel"] for record in deployment.layers] == ["int8", "int8"]
    assert deployment.int8_share == 1.0
    assert deployment.output_sqnr_db > 100.0
    assert torch.equal(deployment.run(x), deployment.run(x))
    for batch in (x[:1], torch.cat([x, 9 * x])):
        assert output_sqnr(model, deployment.run, [Call((batch,), {})]) > 100.0


@pytest.mark.slow
def test_a_network_of_volumes_runs_in_int8(deploy_model: Callable[..., Deployment]) -> None:
    torch.manual_seed(0)
    model, x = Video().eval(), torch.randn(4, 1, 6, 9, 9)
    deployment = deploy_model(model, Call((x,), {}))
    kernels = {record["name"]: record.get("kernel") for record in deployment.layers}
    assert kernels == {
        "features.0": "int8",
        "features.1": None,
        "features.3": None,
        "features.4": "int8",
        "image": "int8",
        "head": "int8",
    }
    other = torch.randn(7, 1, 6, 9, 9)
    assert output_sqnr(model, deployment.run, [Call((other,), {})]) > 35.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "groups"), [(1, 1), (1, 2), (1, 8), (2, 1), (2, 2), (2, 8), (3, 1), (3, 2), (3, 4)]
)
def test_grouped_convolutions_of_every_rank_deploy(
    rank: int, groups: int, deploy_model: Callable[..., Deployment]
) -> None:
    torch.manual_seed(0)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    model = nn.Sequential(kind(8, 8, 3, padding=1, groups=groups), nn.ReLU())
    deployment = deploy_model(model, Call((torch.randn(4, 8, *[7] * rank),), {}))
    assert deployment.output_sqnr_db > 40.0
    assert deployment.layers[0]["kernel"] == "int8"
