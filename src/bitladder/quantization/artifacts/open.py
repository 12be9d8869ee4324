"""Opening an artifact that somebody names: what it holds, what it takes, and how to run it."""

import importlib.util
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bitladder.archives import archive_damage, is_archive
from bitladder.errors import UserError
from bitladder.quantization.artifacts.runtime import Run, load
from bitladder.quantization.artifacts.seal import is_damaged
from bitladder.quantization.compile import quiet
from bitladder.quantization.signature import Input, from_text, inputs_of

_ONNX_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class Opened:
    """An artifact, ready to run."""

    run: Run
    """Takes and gives tensors on the CPU."""
    inputs: list[Input]


def open_artifact(path: Path, runtime: str | None = None) -> Opened:
    """Load an artifact by what is in it, whatever it is called.

    Args:
        path: A ``pt2`` package for the CPU or CUDA, a program, or ONNX.
        runtime: For ONNX ``onnxruntime``, which is the default, or ``openvino``.

    Raises:
        UserError: If there is no such file, it is no artifact or a damaged one, or what it needs is
            not here: a library, a CUDA device.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    kind = _kind(path)
    if runtime is not None and kind != "onnx":
        raise UserError(f"{path} is no ONNX file, which alone can choose a runtime: leave it out")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{path} is compiled for CUDA, and there is no CUDA device here")
    library = runtime or "onnxruntime"
    if kind == "onnx" and importlib.util.find_spec(library) is None:
        raise UserError(f"{path} needs {library}: pip install {library}")
    try:
        with quiet():
            name = library if kind == "onnx" else kind
            run, loaded = load(name, str(path))
            return Opened(run, _INPUTS[name](loaded))
    except Exception as error:  # each library has its own for a damaged file
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{path} cannot be loaded: {reason}") from error


def _kind(path: Path) -> str:
    """``package``, ``cuda``, ``program`` or ``onnx``."""
    if not is_archive(path):
        if path.suffix == ".onnx":
            if is_damaged(path.read_bytes()):
                raise UserError(f"{path} is damaged: its content does not match its checksum")
            return "onnx"
        raise UserError(f"{path} is no artifact, or was cut short: give a .pt2 or an .onnx file")
    if damage := archive_damage(path):
        raise UserError(f"{path} is damaged: {damage}")
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("/models/model.json"):
                return "program"
            if name.endswith("metadata.json"):
                return "cuda" if b'"AOTI_DEVICE_KEY": "cuda"' in archive.read(name) else "package"
    raise UserError(f"{path} is no artifact: it holds neither a compiled model nor a program")


def _of_package(package: Any) -> list[Input]:
    return from_text(package.get_metadata()["inputs"])


def _of_onnxruntime(session: Any) -> list[Input]:
    return [
        Input(
            x.name,
            str(_ONNX_DTYPES.get(x.type, x.type)),
            tuple(size if isinstance(size, int) else None for size in x.shape),
        )
        for x in session.get_inputs()
    ]


def _of_openvino(model: Any) -> list[Input]:
    return [
        Input(
            x.get_any_name(),
            x.get_element_type().to_dtype().name,
            tuple(size.get_length() if size.is_static else None for size in x.get_partial_shape()),
        )
        for x in model.inputs
    ]


_INPUTS: dict[str, Callable[[Any], list[Input]]] = {
    "package": _of_package,
    "cuda": _of_package,
    "program": inputs_of,
    "onnxruntime": _of_onnxruntime,
    "openvino": _of_openvino,
}
