"""Small networks of every kind, ready for each method, and two artifacts that many tests share."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitladder.models import MLP, ResNet, VisionTransformer
from bitladder.quantization import (
    Call,
    Deployment,
    LayerPlan,
    Recipe,
    calibrate,
    compile,
    convert,
    deploy,
    prepare,
    quantized_layers,
    set_observing,
    set_quantizing,
)
from bitladder.quantization.kernels import Int8Kernels
from bitladder.quantization.package import slim
from bitladder.quantization.recipe import Method
from bitladder.quantization.reference import ReferenceLayer


class Separable(nn.Module):
    """Depthwise, grouped, dilated and pointwise convolutions, BatchNorm behind conv and linear."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding="same"),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.Hardswish(),
            nn.Conv2d(8, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Conv2d(16, 16, (3, 1), padding=(2, 0), dilation=(2, 1), groups=4),
            nn.ReLU(),
        )
        self.neck = nn.Linear(16, 12)
        self.norm = nn.BatchNorm1d(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).mean((2, 3))
        return self.head(torch.relu(self.norm(self.neck(x))))


class Waves(nn.Module):
    """Convolutions over time, the first of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 8, 5, stride=2, padding=2, bias=False)
        self.norm1 = nn.BatchNorm1d(8)
        self.conv2 = nn.Conv1d(8, 8, 3, padding=1, groups=2)
        self.norm2 = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = y + torch.relu(self.norm2(self.conv2(y)))
        return self.head(y.mean(2))


@dataclass
class Net:
    """A model with BatchNorm statistics of its own, in eval mode, and data for it."""

    model: nn.Module
    batches: list[Tensor]
    plans: list[LayerPlan]


def _resnet(*shape: int) -> Callable[[], nn.Module]:
    return lambda: ResNet(shape, 10, widths=(8, 16), blocks=(1, 1))


_NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLP((1, 8, 8), 10, hidden=(32, 16), dropout=0.1), (1, 8, 8)),
    "resnet_1x8x8": (_resnet(1, 8, 8), (1, 8, 8)),
    "resnet_3x8x8": (_resnet(3, 8, 8), (3, 8, 8)),
    "resnet_1x28x28": (_resnet(1, 28, 28), (1, 28, 28)),
    "resnet_3x28x28": (_resnet(3, 28, 28), (3, 28, 28)),
    "vit": (lambda: VisionTransformer((1, 8, 8), 10, dim=16, depth=2, heads=2), (1, 8, 8)),
    "separable": (Separable, (3, 9, 9)),
    "waves": (Waves, (1, 32)),
}


def _net(name: str) -> Net:
    build, shape = _NETS[name]
    torch.manual_seed(0)
    model = build()
    batches = [torch.randn(8, *shape) for _ in range(4)]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    for batch in batches:
        model(batch)  # BatchNorm's statistics are no longer 0 and 1
    return Net(model.eval(), batches, [])


def _ready(name: str, method: Method) -> Net:
    net = _net(name)
    model = net.model
    net.plans = prepare(model, Recipe(method=method), example_args=(net.batches[0],))
    if method != "qat":
        calibrate(model, net.batches)
        return net
    set_observing(model, True)
    set_quantizing(model, True)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for batch in net.batches:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    set_observing(model, False)
    model.eval()
    return net


@pytest.fixture
def make_net() -> Callable[[str], Net]:
    """A float model by name."""
    return _net


@pytest.fixture
def make_ready() -> Callable[[str, Method], Net]:
    """A model prepared by a method, its ranges known, rounding on, in eval mode."""
    return _ready


@pytest.fixture(params=_NETS)
def any_net(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["dynamic", "ptq", "qat"])
def any_method(request: pytest.FixtureRequest) -> Method:
    return request.param


@dataclass
class Deployed:
    """A model, what it became, and the file."""

    net: Net
    deployment: Deployment
    path: Path


def _deploy(name: str, method: Method, folder: Path) -> Deployed:
    net = _ready(name, method)
    path = folder / "model_int8.pt2"
    calls = [Call((batch,), {}) for batch in net.batches]
    deployment = deploy(net.model, net.plans, calls, path, min_sqnr_db=20.0)
    return Deployed(net, deployment, path)


@pytest.fixture
def make_deployed(tmp_path: Path) -> Callable[[str, Method], Deployed]:
    return lambda name, method: _deploy(name, method, tmp_path)


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A residual network for one-channel images after QAT."""
    return _deploy("resnet_1x8x8", "qat", tmp_path_factory.mktemp("static"))


@pytest.fixture(scope="session")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A multi-layer perceptron whose input ranges come at run time."""
    return _deploy("mlp", "dynamic", tmp_path_factory.mktemp("dynamic"))


@dataclass
class Compiled:
    """A float model's package, as it is kept and as the compiler wrote it."""

    kernels: Int8Kernels
    path: Path
    before: Path


@pytest.fixture(scope="session")
def float_package(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("float")
    net = _net("separable")
    before = folder / "before.pt2"

    def keep_and_slim(path: Path) -> None:
        shutil.copy(path, before)
        slim(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile, "slim", keep_and_slim)
        kernels = compile.compile_package(
            net.model, [Call((net.batches[0],), {})], folder / "model_fp32.pt2"
        )
    return Compiled(kernels, folder / "model_fp32.pt2", before)


def _int8_kernels(
    model: nn.Module, x: Tensor, folder: Path, change: Callable[[nn.Module], None] | None = None
) -> tuple[Int8Kernels, list[str]]:
    prepare(model.eval(), Recipe(method="ptq"), example_args=(x,))
    calibrate(model, [x])
    reference = convert(model)
    if change is not None:
        change(reference)
    kernels = compile.compile_package(reference, [Call((x,), {})], folder / "model.pt2")
    return kernels, list(quantized_layers(model))


@pytest.fixture
def make_int8_kernels(tmp_path: Path) -> Callable[..., tuple[Int8Kernels, list[str]]]:
    """Compiles a float model to int8: which kernels there are, and for which layers."""
    return lambda model, x: _int8_kernels(model, x, tmp_path)


@pytest.fixture(scope="session")
def broken_kernels(tmp_path_factory: pytest.TempPathFactory) -> Int8Kernels:
    """Of two layers, ``0`` and ``2``, whose second no longer quantizes its input."""

    def skip_rounding(reference: nn.Module) -> None:
        layer = reference.get_submodule("2")
        assert isinstance(layer, ReferenceLayer)
        layer.forward = partial(_float_input, layer)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    folder = tmp_path_factory.mktemp("broken")
    return _int8_kernels(model, torch.randn(4, 8), folder, skip_rounding)[0]


def _float_input(layer: ReferenceLayer, input: Tensor) -> Tensor:
    return F.linear(input, layer.weight, layer.bias)
