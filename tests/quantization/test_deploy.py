import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError, UserError
from bitladder.quantization import (
    Call,
    Recipe,
    calibrate,
    convert,
    deploy,
    export,
    prepare,
    quantized_layers,
)
from bitladder.quantization.kernels import Int8Kernels
from bitladder.quantization.recipe import Method
from bitladder.quantization.reference import ReferenceLayer
from bitladder.quantization.verify import output_sqnr

# The modules: the package's own attributes of those names are functions.
DEPLOY = import_module("bitladder.quantization.deploy")
CONVOLUTION = import_module("bitladder.quantization.reference.convolution")

ARTIFACTS = ["static", pytest.param("dynamic", marks=pytest.mark.vnni)]


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_the_artifact_computes_what_the_fake_quantized_model_does(
    artifact: str, request: pytest.FixtureRequest
) -> None:
    deployed = request.getfixturevalue(artifact)
    calls = [Call((torch.randn(8, 1, 8, 8),), {})]
    assert deployed.deployment.output_sqnr_db > 40.0
    assert output_sqnr(deployed.net.model, deployed.deployment.run, calls) > 35.0
    assert output_sqnr(convert(deployed.net.model), deployed.deployment.run, calls) > 35.0


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_called_twice_on_one_tensor_nothing_changes(
    artifact: str, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(artifact).deployment.run
    x = torch.randn(7, 1, 8, 8)
    before = x.clone()
    first = run(x).clone()
    assert torch.equal(run(x), first)
    assert torch.equal(x, before)


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_there_is_a_record_for_every_layer_and_it_is_json(
    artifact: str, request: pytest.FixtureRequest
) -> None:
    deployed = request.getfixturevalue(artifact)
    records = json.loads(json.dumps(deployed.deployment.layers))
    assert [record["name"] for record in records] == [plan.name for plan in deployed.net.plans]
    quantized = {record["name"]: record for record in records if record["quantized"]}
    assert quantized.keys() == quantized_layers(deployed.net.model).keys()
    for record in quantized.values():
        assert record["reason"] is None
        assert record["kernel"] == "int8"
        assert record["sqnr_db"] > 30.0
        assert record["local_sqnr_db"] > 30.0
        assert len(record["weight"]["scale"]) == len(record["weight"]["zero_point"])
        assert record["input"]["observer"] in ("dynamic", "MovingAverageObserver")


def test_a_folded_norm_says_into_what(static: Any) -> None:
    reasons = {record["name"]: record["reason"] for record in static.deployment.layers}
    assert reasons["stem.1"] == "folded into stem.0"
    assert reasons["stages.1.0.shortcut.1"] == "folded into stages.1.0.shortcut.0"


@pytest.mark.parametrize(("value", "db"), [(3, "-?[0-9.]+"), (torch.nan, "nan")])
def test_int8_that_differs_too_much_is_refused_with_the_first_layer(
    value: float,
    db: str,
    make_ready: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def convert_badly(model: nn.Module) -> nn.Module:
        reference = convert(model)
        reference.get_submodule("stages.0.0.conv2").get_buffer("bias").fill_(value)
        return reference

    monkeypatch.setattr(DEPLOY, "convert", convert_badly)
    net, path = make_ready("resnet_3x8x8", "ptq"), tmp_path / "model.pt2"
    message = rf"layer stages\.0\.0\.conv2: int8 differs .* SQNR {db} dB is below 20\.0 dB"
    with pytest.raises(RunError, match=message):
        deploy(net.model, net.plans, [Call((net.batches[0],), {})], path, min_sqnr_db=20.0)
    assert not path.exists()


class Deep(nn.Module):
    """Noise grows from layer to layer; little of it reaches the output."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(16, 16) for _ in range(24)])
        for layer in self.layers:
            nn.init.orthogonal_(layer.get_parameter("weight"))
        self.share = 0.02

    def forward(self, x: Tensor) -> Tensor:
        return x + self.share * self.layers(x)


def convert_roughly(model: nn.Module) -> nn.Module:
    """Every layer is a little wrong, as a rounding flip here and there makes it."""
    reference = convert(model)
    torch.manual_seed(1)
    for module in reference.modules():
        if isinstance(module, ReferenceLayer):
            module.weight_scale *= 1.0 + 0.2 * torch.randn_like(module.weight_scale)
    return reference


@pytest.mark.parametrize("share", [0.02, 1.0])
def test_errors_that_add_up_are_judged_at_the_output(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, x, path = Deep().eval(), torch.randn(32, 16), tmp_path / "model.pt2"
    model.share = share
    plans = prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    monkeypatch.setattr(DEPLOY, "convert", convert_roughly)
    arguments: Any = (model, plans, [Call((x,), {})], path)
    if share == 1.0:
        message = r"at the output, SQNR -?\d.*, though each layer alone .*skip=\[layers\.\d+\]"
        with pytest.raises(RunError, match=message):
            deploy(*arguments, min_sqnr_db=10.0)
        assert not path.exists()
        return
    records = deploy(*arguments, min_sqnr_db=10.0).layers
    assert min(record["local_sqnr_db"] for record in records) > 10.0
    assert min(record["sqnr_db"] for record in records) < 10.0


@pytest.mark.slow
def test_empty_batches_are_left_out_and_the_artifact_takes_one_sample_or_several(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    plans = prepare(model, Recipe(method="dynamic"))
    calls = [Call((torch.randn(batch, 8),), {}) for batch in (0, 1, 1)]
    calibrate(model, calls)
    deployment = deploy(model, plans, calls, tmp_path / "model.pt2", min_sqnr_db=20.0)
    assert deployment.int8_share == 1.0
    for batch in (1, 3):
        assert deployment.run(torch.randn(batch, 8)).shape == (batch, 4)


def test_nothing_but_empty_batches_is_refused(make_ready: Callable[..., Any]) -> None:
    net = make_ready("mlp", "ptq")
    calls = [Call((torch.randn(0, 1, 8, 8),), {})]
    with pytest.raises(UserError, match="every batch to compare on is empty"):
        deploy(net.model, net.plans, calls, Path("model.pt2"), min_sqnr_db=20.0)


class OntoInput(nn.Module):
    """The case in which Inductor would give the input's memory to the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


def deploy_onto_input(method: Method, x: Tensor, path: Path) -> Any:
    torch.manual_seed(0)
    model = OntoInput().eval()
    plans = prepare(model, Recipe(method=method))
    calibrate(model, [x])
    return deploy(model, plans, [Call((x,), {})], path, min_sqnr_db=20.0)


@pytest.mark.parametrize("method", ["ptq", "dynamic"])
def test_a_sum_with_the_models_own_input_leaves_the_input_alone(
    method: Method, tmp_path: Path
) -> None:
    x = torch.randn(8, 8)
    run = deploy_onto_input(method, x, tmp_path / "model.pt2").run
    y, before = torch.randn(8, 8), x.clone()
    assert torch.equal(run(x), run(x))
    assert torch.equal(x, before)
    assert torch.equal(run(y), run(y.clone()))


def test_an_artifact_that_overwrites_its_input_is_refused_with_the_layers_that_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def protect_nothing(kernels: Int8Kernels, graph: torch.fx.Graph) -> None:
        for node in graph.nodes:
            if getattr(node.target, "__name__", "") == "qlinear_binary":
                kernels.adding |= {argument.name for argument in node.all_input_nodes}

    monkeypatch.setattr(Int8Kernels, "protect", protect_nothing)
    path = tmp_path / "model.pt2"
    with pytest.raises(RunError, match="overwrites its input tensor: of its layers down may add"):
        deploy_onto_input("ptq", torch.randn(8, 8), path)
    assert not path.exists()


class OneChannel(nn.Module):
    """Around a one-channel image Inductor takes one memory layout for another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = y + self.second(torch.relu(y))
        return self.head(y.flatten(1))


def test_a_miscompiled_model_is_refused_with_the_first_layer_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CONVOLUTION, "SECOND_CHANNEL", [])
    torch.manual_seed(0)
    model, x, path = OneChannel().eval(), torch.randn(4, 1, 8, 8), tmp_path / "model.pt2"
    plans = prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    with pytest.raises(RunError, match=r"compiled model differs .*; layer second is the first"):
        deploy(model, plans, [Call((x,), {})], path, min_sqnr_db=20.0)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_without_an_int8_kernel_is_refused_and_nothing_is_left(
    make_ready: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitladder.quantization.kernels._KERNELS", ("onednn.none",))
    net = make_ready("mlp", "ptq")
    path = tmp_path / "model.pt2"
    with pytest.raises(RunError, match=r"no int8 kernel for layers\.1, layers\.4, head"):
        deploy(net.model, net.plans, [Call((net.batches[0],), {})], path, min_sqnr_db=20.0)
    assert not path.exists()


def test_a_miscompiled_model_is_refused_and_nothing_is_left(
    make_net: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, static: Any
) -> None:
    def other_model(model: nn.Module, call: Call, path: Path) -> Int8Kernels:
        path.write_bytes(static.path.read_bytes())
        return Int8Kernels()

    monkeypatch.setattr(DEPLOY, "compile_package", other_model)
    net, path = make_net("mlp"), tmp_path / "model.pt2"
    with pytest.raises(RunError, match="the compiled model differs from the model: SQNR"):
        export(net.model, net.batches[0], path)
    assert not path.exists()


@pytest.mark.slow
def test_a_float_model_exports(any_net: str, make_net: Callable[..., Any], tmp_path: Path) -> None:
    net = make_net(any_net)
    run = export(net.model, net.batches[0], tmp_path / "model_fp32.pt2")
    for x in (net.batches[1][:1], torch.cat(net.batches)):
        torch.testing.assert_close(run(x), net.model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_every_kind_of_network_deploys_by_every_method(
    any_net: str, any_method: Method, make_deployed: Callable[..., Any]
) -> None:
    deployed = make_deployed(any_net, any_method)
    assert deployed.deployment.output_sqnr_db > 35.0
    for batch in (1, 7, 64):
        x = torch.cat(deployed.net.batches * 2)[:batch]
        y, expected = deployed.deployment.run(x), deployed.net.model(x)
        assert y.shape == expected.shape
        assert (y - expected).square().mean() < 1e-3 * expected.square().mean()


@pytest.mark.slow
def test_the_model_itself_may_be_a_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(8, 4).eval(), torch.randn(16, 8)
    plans = prepare(model, Recipe(method="ptq"))
    calibrate(model, [x])
    deployment = deploy(model, plans, [Call((x,), {})], tmp_path / "model.pt2", min_sqnr_db=20.0)
    assert deployment.layers[0]["kernel"] == "int8"


@pytest.mark.slow
def test_any_signature_deploys(tmp_path: Path) -> None:
    class TwoTowers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(8, 16)
            self.right = nn.Linear(6, 16)

        def forward(self, x: Tensor, *, other: Tensor) -> dict[str, Tensor]:
            left, right = torch.relu(self.left(x)), torch.relu(self.right(other))
            return {"product": left * right, "left": left}

    torch.manual_seed(0)
    model = TwoTowers().eval()
    call = Call((torch.randn(8, 8),), {"other": torch.randn(8, 6)})
    plans = prepare(model, Recipe(method="ptq"))
    calibrate(model, [call])
    deployment = deploy(model, plans, [call], tmp_path / "model.pt2", min_sqnr_db=20.0)
    y = deployment.run(torch.randn(3, 8), other=torch.randn(3, 6))
    assert y.keys() == {"product", "left"}


@pytest.mark.parametrize("shift", [pytest.param(5.0, marks=pytest.mark.vnni), -5.0])
def test_a_dynamic_range_that_leaves_zero_out_still_has_it_on_its_grid(
    shift: float, tmp_path: Path
) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.tanh(x) + shift)

    torch.manual_seed(0)
    model, call = Shifted().eval(), Call((torch.randn(32, 16),), {})
    plans = prepare(model, Recipe(method="dynamic"))
    calibrate(model, [call], inputs=False)
    deployment = deploy(model, plans, [call], tmp_path / "model.pt2", min_sqnr_db=15.0)
    assert deployment.output_sqnr_db > 60.0
