"""Which files a run can leave, and what this machine lacks to write them."""

import importlib.util
from collections.abc import Sequence
from typing import Literal, get_args

import torch

from bitladder.errors import UserError

Format = Literal["pt2", "onnx", "program", "cuda"]
"""``pt2``: an AOTInductor package for the CPU; ``onnx``: ONNX with quantize and dequantize nodes;
``program``: what ``torch.export`` saves; ``cuda``: an AOTInductor package for CUDA devices."""

CudaLinears = Literal["int8_dynamic", "int8_weight_only", "fp8_dynamic"]
"""What the linears of a ``cuda`` package compute in; all else is bf16."""

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_FP8_CAPABILITY = (8, 9)


def check_formats(formats: Sequence[str], cuda_linears: str) -> None:
    """Refuse what cannot be written here, which is better known before a training than after it.

    Args:
        formats: Names of formats.
        cuda_linears: What a ``cuda`` package's linears compute in.

    Raises:
        UserError: If a name is unknown or written twice, ``pt2`` is not among them, a package is
            not installed, or there is no CUDA device that a ``cuda`` package could run on.
    """
    known = ", ".join(get_args(Format))
    for name in formats:
        if name not in get_args(Format):
            raise UserError(f"quantization.export: {name!r} is none of {known}")
        if formats.count(name) > 1:
            raise UserError(f"quantization.export: {name} is there twice: write it once")
    if "pt2" not in formats:
        raise UserError(
            "quantization.export lacks pt2, the file that the int8 rung is measured with: write"
            f" quantization.export=[{','.join(('pt2', *formats))}]"
        )
    if cuda_linears not in get_args(CudaLinears):
        choices = ", ".join(get_args(CudaLinears))
        raise UserError(f"quantization.cuda_linears: {cuda_linears!r} is none of {choices}")
    if "onnx" in formats:
        _check_onnx()
    if "cuda" in formats:
        _check_cuda(cuda_linears)


def artifact_name(format: Format, package: str, cuda_linears: CudaLinears) -> str:
    """The file name of an artifact, beside a ``pt2`` package's.

    Args:
        format: What the file holds.
        package: The file name of the ``pt2`` package, such as ``model_int8.pt2``.
        cuda_linears: What a ``cuda`` package's linears compute in.
    """
    stem = package.removesuffix(".pt2")
    match format:
        case "pt2":
            return package
        case "onnx":
            return f"{stem}.onnx"
        case "program":
            return f"{stem}_program.pt2"
        case "cuda":
            return f"{stem.removesuffix('_int8')}_{cuda_linears}_cuda.pt2"


def _check_onnx() -> None:
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"quantization.export: onnx needs {', '.join(missing)}: pip install 'bitladder[onnx]'"
        )


def _check_cuda(linears: str) -> None:
    if not torch.cuda.is_available():
        raise UserError(
            "quantization.export: cuda compiles for a CUDA device, and there is none here: leave"
            " cuda out"
        )
    capability = torch.cuda.get_device_capability()
    if linears == "fp8_dynamic" and capability < _FP8_CAPABILITY:
        raise UserError(
            f"quantization.cuda_linears=fp8_dynamic needs compute capability 8.9, and"
            f" {torch.cuda.get_device_name()} has {capability[0]}.{capability[1]}: write"
            " int8_dynamic or int8_weight_only"
        )
