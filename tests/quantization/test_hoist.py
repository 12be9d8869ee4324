from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Graph

from bitladder.quantization import Call, Recipe, calibrate, convert, deploy, prepare
from bitladder.quantization.compile import trace
from bitladder.quantization.hoist import hoist_rounding

ROUND = torch.ops.quantized_decomposed.quantize_per_tensor.default


class Branches(nn.Module):
    """Pooling, concatenation and reshaping between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(16 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = torch.cat([F.silu(self.left(x)), self.right(x)], 1)
        x = F.max_pool2d(x, 3, stride=3, padding=1, ceil_mode=True)
        return self.head(x.flatten(1))


class Residual(nn.Module):
    """A pooled tensor that a layer rounds and an addition takes as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 2)
        return x + self.block(x)


def traced(model: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    prepare(model.eval(), Recipe(method="ptq"), example_args=(x,))
    calibrate(model, [x])
    return trace(convert(model), [Call((x,), {})])


def targets(graph: Graph, target: Callable[..., object]) -> list[torch.fx.Node]:
    return [node for node in graph.nodes if node.target is target]


def test_between_layers_there_are_only_integers_and_the_answer_is_the_same() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 3, 10, 10)
    program = traced(Branches(), x)
    expected = program.module()(x)
    assert hoist_rounding(program.graph) == 4  # two poolings, a concatenation, a flattening
    program.graph_module.recompile()
    assert torch.equal(program.module()(x), expected)
    other = torch.randn(3, 3, 10, 10)
    assert program.module()(other).shape == (3, 5)
    convolutions = targets(program.graph, torch.ops.aten.conv2d.default)
    assert len(convolutions) == 3
    for node in targets(program.graph, torch.ops.aten.max_pool2d.default):
        assert node.all_input_nodes[0].meta["val"].dtype == torch.uint8


def test_what_is_also_used_in_float_stays_float() -> None:
    torch.manual_seed(0)
    program = traced(Residual(), torch.randn(4, 3, 8, 8))
    rounded = targets(program.graph, ROUND)
    assert hoist_rounding(program.graph) == 0
    assert targets(program.graph, ROUND) == rounded


def test_two_ways_of_rounding_are_both_kept() -> None:
    graph = Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.randn(2, 3)
    moved = graph.call_function(torch.ops.aten.flatten.using_ints, (x, 0))
    moved.meta["val"] = torch.randn(6)
    ways = [(scale, 3, 0, 255, torch.uint8) for scale in (0.1, 0.2)]
    graph.output(tuple(graph.call_function(ROUND, (moved, *way)) for way in ways))
    assert hoist_rounding(graph) == 0


def test_an_average_is_not_moved() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3))
    program = traced(model, x)
    assert hoist_rounding(program.graph) == 0


@pytest.mark.slow
def test_the_compiled_model_has_int8_kernels_for_all_of_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 3, 10, 10)
    model = Branches().eval()
    plans = prepare(model, Recipe(method="ptq"), example_args=(x,))
    calibrate(model, [x])
    deployment = deploy(model, plans, [Call((x,), {})], tmp_path / "m.pt2", min_sqnr_db=30.0)
    assert deployment.int8_share == 1.0
    assert deployment.run(torch.randn(1, 3, 10, 10)).shape == (1, 5)
