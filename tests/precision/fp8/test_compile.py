"""torch.compile takes an fp8 model in one graph, and the report of what ran stays right."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bitladder import Fp8Precision, convert_to_fp8
from bitladder.precision.fp8.linear import Fp8Linear, fp8_linears
from bitladder.precision.fp8.report import Seen

# torch's own tracer looks at `.grad` of every tensor that it meets.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise", "rowwise_with_gw_hp"])
def test_compiled_it_computes_the_same_in_one_graph(net: Any, recipe: Any) -> None:
    ids = torch.randint(16, (2, 8))
    records = convert_to_fp8(net, recipe=recipe, emulate=True)
    expected = net(ids)
    expected.sum().backward()
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    for record in records:
        record.executed = False
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    y = compiled(ids)
    assert torch.allclose(y, expected, atol=1e-5)
    y.sum().backward()
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-4)
    assert [record.executed for record in records] == [True] * 4 + [False] * 2
    net.eval()
    with torch.inference_mode():
        assert compiled(ids).isfinite().all()


def test_one_compiled_block_notes_for_every_layer_that_it_serves(net: Any) -> None:
    records = convert_to_fp8(net, emulate=True)
    for block in net.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    net.blocks[0](torch.randn(2, 8, 32, requires_grad=True))
    assert [record.executed for record in records] == [True] * 2 + [False] * 4
    net.blocks[1](torch.randn(2, 8, 32, requires_grad=True))
    assert [record.executed for record in records] == [True] * 4 + [False] * 2


def test_a_compiled_watched_layer_says_so(net: Any) -> None:
    convert_to_fp8(net, layers="auto", emulate=True)
    torch.compile(net, backend="aot_eager", fullgraph=True)(torch.randint(16, (2, 8)))
    seen = [layer.fp8_record.seen for layer in fp8_linears(net).values()]
    assert seen == [Seen(tokens=16, dtype=torch.float32, compiled=True)] * 4


def test_the_plugin_lets_activation_checkpointing_compile(
    make_task: Callable[..., Any], ids: Any, make_trainer: Callable[..., Any]
) -> None:
    class Checkpointed(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.block, x, use_reentrant=False)

    task = make_task()
    task.net.blocks = nn.Sequential(*(Checkpointed(block) for block in task.net.blocks))
    task.net.compile(backend="aot_eager", fullgraph=True)
    plugin = Fp8Precision(emulate=True)
    make_trainer(plugin, max_epochs=1).fit(task, ids, ids)
    assert [record.executed for record in plugin.records] == [True] * 4 + [False] * 2
    assert not any(isinstance(module, Fp8Linear) for module in task.modules())
    assert not torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint


@pytest.mark.slow
def test_inductor_compiles_a_whole_fit(
    make_task: Callable[..., Any], ids: Any, make_trainer: Callable[..., Any]
) -> None:
    eager, compiled = make_task(), make_task()
    compiled.net.compile(fullgraph=True)
    for task in (eager, compiled):
        trainer = make_trainer(Fp8Precision(emulate=True), max_epochs=2)
        trainer.fit(task, ids, ids)
        trainer.validate(task, ids, verbose=False)
    assert eager.losses == pytest.approx(compiled.losses, rel=0.02)
