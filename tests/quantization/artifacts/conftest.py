"""A small network in three formats, written once for all tests."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bitladder.quantization import Call, Recipe, calibrate, convert, prepare
from bitladder.quantization.artifacts.onnx import write_onnx
from bitladder.quantization.artifacts.program import write_program
from bitladder.quantization.recipe import Method


class Small(nn.Module):
    """A convolution of one channel, a sum, and two linears."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.neck = nn.Linear(8, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        y = y + torch.relu(self.second(y))
        return self.head(torch.relu(self.neck(y.mean((2, 3)))))


@dataclass
class Written:
    """A prepared model, what it became, calls, and its files."""

    model: nn.Module
    reference: nn.Module
    calls: list[Call]
    folder: Path

    @property
    def onnx(self) -> Path:
        return self.folder / "model_int8.onnx"

    @property
    def program(self) -> Path:
        return self.folder / "model_int8_program.pt2"


def prepared(method: Method) -> tuple[nn.Module, list[Call]]:
    torch.manual_seed(0)
    model = Small().eval()
    calls = [Call((torch.randn(8, 1, 6, 6),), {}) for _ in range(3)]
    prepare(model, Recipe(method=method), example_args=calls[0].args)
    calibrate(model, calls)
    return model, calls


def write(method: Method, folder: Path) -> Written:
    model, calls = prepared(method)
    reference = convert(model)
    files = Written(model, reference, calls, folder)
    write_onnx(reference, calls, files.onnx)
    write_program(reference, calls, files.program)
    return files


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The ranges of inputs are known."""
    return write("ptq", tmp_path_factory.mktemp("static"))


@pytest.fixture(scope="session")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The ranges of the linears' inputs come at run time."""
    return write("dynamic", tmp_path_factory.mktemp("dynamic"))


@pytest.fixture(params=["static", "dynamic"])
def written(request: pytest.FixtureRequest) -> Written:
    return request.getfixturevalue(request.param)
