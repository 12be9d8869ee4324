from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.quantization import Call, Recipe, prepare, quantized_layers, watch
from bitladder.quantization.watch import capture_calls, uncompiled, with_samples


class ConvNorm(nn.Module):
    """A convolution and a BatchNorm; a subclass says how they are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...] | dict[str, Tensor]:
        return torch.relu(self.norm(self.conv(x)))


class Branch(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if x.sum() > 1e9:  # no tracer gets past this
            return y
        for _ in range(int(x.shape[0] > 0)):
            y = self.norm(y)
        return y


class Shapes(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        assert (y.shape[1], y.dim(), y.dtype) == (4, 4, x.dtype)
        return self.norm(y)


class Residual(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class InPlace(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += 1.0
        return self.norm(y)


class Dense(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([y, self.norm(y)], 1)


class Split(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        left, _ = y.chunk(2, 1)
        return self.norm(y).mean() + left


class Returned(ConvNorm):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.conv(x)
        return self.norm(y), y


class ReturnedInDict(ConvNorm):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.conv(x)
        return {"logits": self.norm(y), "features": y}


class TwoNorms(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + self.other(y)


class ConvTwice(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.conv(x).sum()


class NormTwice(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.norm(self.conv(x)))


class Between(ConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(self.conv(x)))


def paired(model: nn.Module, x: Tensor | None = None) -> dict[str, nn.Module | None]:
    x = torch.randn(2, 3, 8, 8) if x is None else x
    prepare(model, Recipe(method="ptq"), example_args=(x,))
    return {name: layer.batch_norm for name, layer in quantized_layers(model).items()}


@pytest.mark.parametrize("kind", [ConvNorm, Branch, Shapes])
def test_a_norm_that_alone_uses_the_convolutions_output_is_folded(kind: type[ConvNorm]) -> None:
    model = kind()
    assert paired(model) == {"conv": model.norm}


@pytest.mark.parametrize(
    "kind",
    [
        Residual,
        InPlace,
        Dense,
        Split,
        Returned,
        ReturnedInDict,
        TwoNorms,
        ConvTwice,
        NormTwice,
        Between,
    ],
)
def test_a_norm_is_not_folded_when_more_depends_on_the_output(kind: type[ConvNorm]) -> None:
    assert paired(kind()) == {"conv": None}


def test_a_norm_without_running_statistics_is_not_folded() -> None:
    assert (
        paired(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)))["0"]
        is None
    )


def test_linear_pairs_with_batch_norm_over_features_only() -> None:
    flat = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert paired(flat, torch.randn(5, 3)) == {"0": flat[1]}
    sequence = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5))  # normalises over positions
    assert paired(sequence, torch.randn(2, 5, 3)) == {"0": None}


def test_conv1d_pairs_with_batch_norm() -> None:
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4))
    assert paired(model, torch.randn(2, 3, 9)) == {"0": model[1]}


def test_a_skipped_layer_keeps_its_norm() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    prepare(model, Recipe(method="ptq"), skip=["0"], example_args=(torch.randn(2, 3, 8, 8),))
    assert [layer.batch_norm for layer in quantized_layers(model).values()] == [None]


def test_only_layers_that_ran_count_as_executed() -> None:
    class Unused(ConvNorm):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Linear(2, 2)

    model = Unused()
    prepare(model, Recipe(method="ptq"))
    with watch(model) as observed:
        model(torch.randn(2, 3, 8, 8))
    assert observed.executed == {"conv"}


def test_watching_leaves_no_hooks_behind_even_after_an_error() -> None:
    model = ConvNorm()
    prepare(model, Recipe(method="ptq"))
    with pytest.raises(RuntimeError), watch(model):
        model(torch.randn(2, 5, 8, 8))
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_calls_are_captured_with_all_their_arguments() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, *, scale: float) -> Tensor:
            return x * scale

    model, x = Two(), torch.randn(2)
    with capture_calls(model) as calls:
        model(x, scale=2.0)
    model(x, scale=3.0)
    assert [(call.args, call.kwargs) for call in calls] == [((x,), {"scale": 2.0})]


def test_overlapping_blocks_leave_compilation_as_it_was() -> None:
    compiled = 0

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        nonlocal compiled
        compiled += 1
        return graph.forward

    @torch.compile(backend=backend)
    def double(x: Tensor) -> Tensor:
        return 2 * x

    first, second = uncompiled(), uncompiled()
    first.__enter__()
    second.__enter__()
    double(torch.ones(2))
    first.__exit__(None, None, None)
    double(torch.ones(2))
    assert compiled == 0
    second.__exit__(None, None, None)
    double(torch.ones(2))
    torch.compiler.reset()
    assert compiled == 1


def test_a_call_without_a_sample_is_left_out() -> None:
    empty = Call((torch.tensor(1.0), torch.ones(0, 3)), {})
    full = Call((), {"scale": torch.tensor(1.0), "x": torch.ones(1, 3)})
    assert with_samples([empty, full]) == [full]
    assert len(with_samples([Call((2.0,), {})])) == 1
