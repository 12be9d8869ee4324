"""What is counted, compared with the tensors themselves; and who must not notice."""

from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bitladder import NumericsMonitor
from bitladder.callbacks.numerics_sample import NumericsSample
from bitladder.formats import FP16, FP32
from bitladder.metrics import format_shares

from .conftest import Net, Researcher, WithoutArtifact, data, researcher
from .numerics_helpers import Memory, Smooth, fit, trainer

LAYERS = ("net.0", "net.2", "net.4")


def sample_of(net: nn.Module, *names: str, scale: float = 1.0) -> NumericsSample:
    sample = NumericsSample({name: net.get_submodule(name) for name in names}, [FP16], FP32)
    sample.loss_scale = scale
    return sample


def shares(*tensors: Tensor) -> dict[str, float]:
    return format_shares(torch.cat([x.flatten() for x in tensors]), [FP16])


def of(sample: NumericsSample, tensor: str, name: str) -> dict[str, float]:
    """The figures of one tensor of one module, without those of the training format."""
    start = f"{tensor}/{name}/"
    figures = {k.removeprefix(start): v for k, v in sample.figures().items() if k.startswith(start)}
    return {k: v for k, v in figures.items() if k not in ("underflow", "subnormal", "saturated")}


def test_batches_that_accumulate_are_counted_together() -> None:
    seen: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
    gradients: list[list[Tensor]] = []

    class Remembers(Smooth):
        def on_train_start(self) -> None:
            for name in LAYERS:
                self.get_submodule(name).register_forward_hook(partial(self.keep, name))

        def keep(self, name: str, layer: nn.Module, args: Any, output: Tensor) -> None:
            seen[name].append(output)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            gradients.append([p.grad.clone() for p in self.parameters() if p.grad is not None])

    row = fit(NumericsMonitor(), Remembers(), accumulate_grad_batches=3)[0]
    for name in LAYERS:
        expected = format_shares(torch.cat(seen[name][:3]))
        found = {key: row[f"numerics/activation/{name}/{key}"] for key in expected}
        assert found == pytest.approx(expected)
    weight, bias = gradients[0][:2]
    expected = format_shares(torch.cat([weight.flatten(), bias]))
    found = {key: row[f"numerics/weight_gradient/net.0/{key}"] for key in expected}
    assert found == pytest.approx(expected)


def test_a_module_called_twice_is_counted_with_all_its_calls() -> None:
    net = nn.Sequential(nn.Linear(4, 4))
    sample, x = sample_of(net, "0"), torch.randn(5, 4) * 1e-4
    with sample.watching():
        one = net[0](x)
        two = net[0](one)
    one.retain_grad()
    two.retain_grad()
    two.square().sum().backward()
    assert one.grad is not None
    assert two.grad is not None
    assert of(sample, "activation", "0") == shares(one, two)
    assert of(sample, "gradient", "0") == shares(one.grad, two.grad)


def test_outputs_in_tuples_and_dicts_are_counted_and_what_is_not_floating_is_not() -> None:
    class Many(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x * 2, {"half": x.half(), "index": x.argmax(1)}, [x[:0]], None

    net = nn.ModuleDict({"many": Many()})
    sample, x = sample_of(net, "many"), torch.randn(5, 4, requires_grad=True)
    with sample.watching():
        double, named, _, _ = net["many"](x)
    (double.sum() + named["half"].float().sum()).backward()
    assert of(sample, "activation", "many") == shares(double, named["half"].float())
    assert of(sample, "gradient", "many")["amax"] == 1.0


def test_gradients_are_judged_without_the_loss_scale() -> None:
    net = nn.Sequential(nn.Linear(4, 4))
    sample = sample_of(net, "0", scale=1024.0)
    with sample.watching():
        y = net(torch.randn(5, 4))
    (y * 2.0**-18 * 1024.0).sum().backward()
    assert of(sample, "gradient", "0")["amax"] == 2.0**-18
    assert of(sample, "gradient", "0")["fp16/subnormal"] == 1.0


def test_under_another_scale_the_later_gradients_count() -> None:
    net = nn.Sequential(nn.Linear(4, 4))
    sample = sample_of(net, "0", scale=2.0)
    for scale in (4.0, 2.0):
        sample.loss_scale = scale
        with sample.watching():
            y = net(torch.randn(5, 4))
        (y * scale * scale).sum().backward()
    assert of(sample, "gradient", "0")["amax"] == 2.0


def test_an_activation_is_counted_before_it_is_changed_in_place() -> None:
    net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(inplace=True))
    sample = sample_of(net, "0", "1")
    with sample.watching():
        net(torch.randn(5, 4)).sum().backward()
    assert of(sample, "activation", "0")["zero"] == 0.0
    assert of(sample, "activation", "1")["zero"] > 0.2
    assert of(sample, "gradient", "0")["zero"] == of(sample, "activation", "1")["zero"]


def test_frozen_and_idle_modules_have_the_figures_that_there_are() -> None:
    net = nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 4), nn.Linear(4, 4))
    sample = sample_of(net, "0", "1", "2")
    sample.count_weights()
    with sample.watching():
        net[1](net[0](torch.randn(5, 4))).sum().backward()
    sample.count_weight_gradients(list(net.parameters()))
    found = {key.rpartition("/")[0] for key in sample.figures() if key.endswith("/amax")}
    assert found == {
        *(f"weight/{index}" for index in range(3)),
        *(f"activation/{index}" for index in range(2)),
        "gradient/1",
        "weight_gradient/1",
    }


def test_nothing_counted_is_no_figures() -> None:
    assert sample_of(nn.Sequential(nn.ReLU()), "0").figures() == {}


def test_sparse_gradients_are_counted_with_their_zeros() -> None:
    net = nn.Sequential(nn.Embedding(8, 3, sparse=True))
    sample = sample_of(net, "0")
    net(torch.tensor([1, 1, 5])).sum().backward()
    sample.count_weight_gradients(list(net.parameters()))
    assert of(sample, "weight_gradient", "0")["zero"] == pytest.approx(6 / 8)


def test_recomputed_activations_change_nothing() -> None:
    class Recomputes(Smooth):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            y = checkpoint(self.net, batch[0], use_reentrant=False)
            assert isinstance(y, Tensor)
            return F.cross_entropy(y.float(), batch[1])

    assert fit(NumericsMonitor(), Recomputes())[0] == fit(NumericsMonitor(), Smooth())[0]


@pytest.mark.parametrize("first", [True, False])
def test_quantization_aware_training_is_the_same_to_the_bit_and_finds_its_batch_norms(
    first: bool,
) -> None:
    def train(*monitors: L.Callback) -> tuple[Researcher, Memory]:
        memory, module = Memory(), researcher()
        callbacks = [*monitors, WithoutArtifact("qat", target="net")]
        trainer(callbacks if first else callbacks[::-1], memory, max_epochs=2).fit(
            module, datamodule=data()
        )
        return module, memory

    watched, memory = train(NumericsMonitor(3, modules=["net", "net.*"]))
    alone, _ = train()
    assert isinstance(watched.net, Net)
    conv: Any = watched.net.conv
    assert conv.batch_norm is watched.net.norm
    for (name, left), right in zip(
        watched.state_dict().items(), alone.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right), name
    assert "numerics/gradient/net.conv/e5m2/underflow" in memory.rows[3]


def test_of_a_compiled_module_the_weights_are_seen_and_it_is_compiled_once() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    class Compiled(Smooth):
        def __init__(self) -> None:
            super().__init__()
            self.net.compile(backend=backend)

    row = fit(NumericsMonitor(2, modules=["*"]), Compiled())[2]
    torch.compiler.reset()
    assert len(graphs) == 1
    seen = {key.split("/")[1] for key in row if key.endswith("net.0/amax")}
    assert seen == {"weight", "weight_gradient"}
