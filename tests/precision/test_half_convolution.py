"""Gradients of fp16 convolutions on the CPU: the numbers of PyTorch's own kernel, sooner."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bitladder.precision import Fp16Precision
from bitladder.precision.half_convolution import FastConvolutionGradients


def gradients(layer: nn.Module, x: Tensor, dtype: torch.dtype, *, fast: bool) -> list[Tensor]:
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=dtype):
        y = layer(x)
    assert y.dtype is dtype
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    loss = (y.float() * weights).sum()
    if fast:
        with FastConvolutionGradients():
            loss.backward()
    else:
        loss.backward()
    assert x.grad is not None
    return [x.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["1d", "2d", "3d", "transposed"]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.integers(1, 2),
)
def test_the_gradients_are_those_of_the_reference(
    kind: str, groups: int, bias: bool, stride: int
) -> None:
    torch.manual_seed(groups + stride)
    make = {"1d": nn.Conv1d, "2d": nn.Conv2d, "3d": nn.Conv3d, "transposed": nn.ConvTranspose2d}
    layer = make[kind](4, 6, 3, stride=stride, groups=groups, bias=bias)
    x = torch.randn(2, 4, *[6] * {"1d": 1, "3d": 3}.get(kind, 2))
    plain = gradients(layer, x, torch.float16, fast=False)
    fast = gradients(layer, x, torch.float16, fast=True)
    assert len(fast) == len(plain) == (3 if bias else 2)
    for ours, theirs in zip(fast, plain, strict=True):
        # One rounding of fp16 apart at most, of the largest terms of the sum.
        torch.testing.assert_close(ours, theirs, rtol=2**-10, atol=2**-10 * float(x.abs().max()))


def test_an_overflow_stays_one() -> None:
    layer = nn.Conv2d(1, 1, 1)
    x = torch.full((1, 1, 2, 2), 6e4)
    with torch.autocast("cpu", dtype=torch.float16):
        y = layer(x)
    with FastConvolutionGradients():
        (y.float() * 1e4).sum().backward()  # the scaler must see it, to skip the step
    assert layer.weight.grad is not None
    assert layer.weight.grad.isinf().all()


def test_other_formats_pass_through() -> None:
    layer, x = nn.Conv2d(2, 3, 3), torch.randn(2, 2, 5, 5)
    for plain, passed in zip(
        gradients(layer, x, torch.bfloat16, fast=False),
        gradients(layer, x, torch.bfloat16, fast=True),
        strict=True,
    ):
        assert torch.equal(plain, passed)


class Watch(TorchDispatchMode):
    """Notes in which dtypes gradients of convolutions are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is torch.ops.aten.convolution_backward.default:
            self.dtypes.add(args[0].dtype)
        return func(*args, **(kwargs or {}))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("times", [1, 2])
def test_the_plugin_uses_it_while_backward_runs(times: int) -> None:
    import lightning as L

    precision = Fp16Precision()
    precision.attach(torch.device("cpu"))
    layer, watch = nn.Conv2d(2, 3, 3), Watch()
    for _ in range(times):
        with torch.autocast("cpu", dtype=torch.float16):
            y = layer(torch.randn(2, 2, 5, 5))
        with watch:
            precision.backward(y.float().sum(), L.LightningModule(), None)
    assert watch.dtypes == {torch.float32}
