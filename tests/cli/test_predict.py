import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitladder.cli.main import main
from bitladder.quantization import Call
from bitladder.quantization.artifacts.onnx import write_onnx
from bitladder.quantization.artifacts.program import write_program
from bitladder.quantization.compile import compile_package


class Doubled(nn.Module):
    """Small enough to compile in a test."""

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * x


class Towers(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + y, x - y


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    calls = [Call((torch.zeros(4, 3),), {})]
    compile_package(Doubled().eval(), calls, folder / "model_int8.pt2")
    write_program(Doubled().eval(), calls, folder / "model_int8_program.pt2")
    write_onnx(Doubled().eval(), calls, folder / "model_int8.onnx")
    two = [Call((torch.zeros(4, 3), torch.zeros(4, 3)), {})]
    write_program(Towers().eval(), two, folder / "towers.pt2")
    np.save(folder / "x.npy", np.arange(15, dtype=np.float32).reshape(5, 3))
    np.save(folder / "double.npy", np.zeros((5, 3)))
    np.save(folder / "wide.npy", np.zeros((5, 4), np.float32))
    np.save(folder / "empty.npy", np.zeros((0, 3), np.float32))
    np.save(folder / "text.npy", np.array(["a"]))
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "nan.npy", np.full((5, 3), np.nan, np.float32))
    np.save(folder / "inf.npy", np.full((5, 3), -np.inf, np.float32))
    np.save(folder / "big_endian.npy", np.arange(15, dtype=">f4").reshape(5, 3))
    np.savez(folder / "arrays.npz", x=np.zeros(3))
    (folder / "junk.npy").write_text("junk")
    (folder / "cut.pt2").write_bytes((folder / "model_int8.pt2").read_bytes()[:2000])
    (folder / "cut.onnx").write_bytes((folder / "model_int8.onnx").read_bytes()[:50])
    with zipfile.ZipFile(folder / "other.pt2", "w") as archive:
        archive.writestr("a", "b")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["model_int8.pt2"],
        ["model_int8_program.pt2"],
        ["model_int8.onnx"],
        ["model_int8.onnx", "--runtime", "openvino"],
    ],
)
def test_every_artifact_runs(
    arguments: list[str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    output = tmp_path / "y.npy"
    assert main(["predict", *arguments, "--input", "x.npy", "--output", str(output)]) == 0
    assert np.array_equal(np.load(output), 2 * np.load("x.npy"))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["float32 [5, 3]: 0, 2, 4, 6, 8, 10, 12, 14, ...", str(output)]
    assert [path.name for path in tmp_path.iterdir()] == ["y.npy"]


def test_bytes_in_another_order_are_the_same_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(folder / "model_int8.pt2"), "--input"]
    assert main([*arguments, str(folder / "big_endian.npy")]) == 0
    assert capsys.readouterr().out == "float32 [5, 3]: 0, 2, 4, 6, 8, 10, 12, 14, ...\n"


def test_several_inputs_and_outputs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, output = str(folder / "x.npy"), tmp_path / "y.npz"
    arguments = ["predict", str(folder / "towers.pt2"), "--input", x, "--input", x]
    assert main([*arguments, "--output", str(tmp_path / "y.npy")]) == 2
    assert "the model gives 2 tensors: write a name that ends in .npz" in capsys.readouterr().err
    assert main([*arguments, "--output", str(output)]) == 0
    with np.load(output) as arrays:
        assert np.array_equal(arrays["output_0"], 2 * np.load(x))
        assert not arrays["output_1"].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nope.pt2 --input x.npy", "nope.pt2: there is no such file"),
        ("x.npy --input x.npy", "x.npy is no artifact"),
        ("cut.pt2 --input x.npy", "cut.pt2 is no artifact, or was cut short"),
        ("other.pt2 --input x.npy", "holds neither a compiled model nor a program"),
        ("cut.onnx --input x.npy", "cut.onnx cannot be loaded: "),
        ("model_int8.pt2", "the following arguments are required: --input"),
        ("model_int8.pt2 --input Nope.npy", "--input Nope.npy: no such file or directory"),
        ("model_int8.pt2 --input .", "--input .: is a directory"),
        ("model_int8.pt2 --input junk.npy", "junk.npy is no array of numbers"),
        ("model_int8.pt2 --input objects.npy", "objects.npy is no array of numbers"),
        ("model_int8.pt2 --input nan.npy", "nan.npy holds NaN"),
        ("model_int8.pt2 --input inf.npy", "inf.npy holds NaN or infinity"),
        ("model_int8.pt2 --input arrays.npz", "arrays.npz is an archive of arrays"),
        ("model_int8.pt2 --input text.npy", "text.npy holds <U1, and models take numbers"),
        ("model_int8.pt2 --input double.npy", "holds float64 of shape [5, 3], and the model takes"),
        ("model_int8.pt2 --input wide.npy", "the model takes float32 of shape [any, 3]"),
        ("model_int8.onnx --input wide.npy", "the model takes float32 of shape [any, 3]"),
        ("model_int8_program.pt2 --input wide.npy", "takes float32 of shape [any, 3]"),
        ("model_int8.pt2 --input empty.npy", "empty.npy holds no sample"),
        ("towers.pt2 --input x.npy", "the model takes 2 inputs, and 1 are given"),
        ("model_int8.pt2 --input x.npy --output no/y.npy", "there is no folder no"),
        ("model_int8.pt2 --input x.npy --output y.txt", "write a name that ends in .npy"),
        ("model_int8.pt2 --input x.npy --runtime openvino", "is no ONNX file"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = set(folder.iterdir())
    assert main(["predict", *arguments.split()]) == 2
    printed = capfd.readouterr()
    assert printed.err.startswith("bitladder: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert set(folder.iterdir()) == before


def test_a_package_for_cuda_is_refused_where_there_is_none(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "model_cuda.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "m/data/aotinductor/model/a.wrapper_metadata.json", '{"AOTI_DEVICE_KEY": "cuda"}'
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["predict", str(path), "--input", str(folder / "x.npy")]) == 2
    assert "there is no CUDA device here" in capsys.readouterr().err


def test_help_answers_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.perf_counter()
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "--help"])
    assert time.perf_counter() - start < 0.5
    assert "bitladder predict ARTIFACT --input X.npy" in capsys.readouterr().out
