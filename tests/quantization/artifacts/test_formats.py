import importlib.util
from typing import Any

import pytest
import torch

from bitladder.errors import UserError
from bitladder.quantization.artifacts.formats import (
    CudaLinears,
    Format,
    artifact_name,
    check_formats,
)


def test_what_is_there_is_not_refused() -> None:
    check_formats(["pt2", "onnx", "program"], "int8_dynamic")


@pytest.mark.parametrize(
    ("formats", "linears", "message"),
    [
        (["pt2", "tflite"], "int8_dynamic", "'tflite' is none of pt2, onnx, program, cuda"),
        (["pt2", "pt2"], "int8_dynamic", "pt2 is there twice"),
        (["onnx"], "int8_dynamic", r"lacks pt2, .*: write quantization\.export=\[pt2,onnx\]"),
        (["pt2"], "int4", r"quantization\.cuda_linears: 'int4' is none of int8_dynamic, "),
    ],
)
def test_what_cannot_be_is_refused(formats: list[str], linears: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_formats(formats, linears)


def test_onnx_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        return None if name in ("onnxscript", "onnxruntime") else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(UserError, match=r"needs onnxscript, onnxruntime: pip install .*\[onnx\]"):
        check_formats(["pt2", "onnx"], "int8_dynamic")


def test_cuda_without_a_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="there is none here: leave cuda out"):
        check_formats(["pt2", "cuda"], "int8_dynamic")


def test_fp8_on_an_old_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A100")
    check_formats(["pt2", "cuda"], "int8_dynamic")
    with pytest.raises(UserError, match=r"A100 has 8\.0: write int8_dynamic or int8_weight_only"):
        check_formats(["pt2", "cuda"], "fp8_dynamic")


@pytest.mark.parametrize(
    ("format", "linears", "name"),
    [
        ("pt2", "int8_dynamic", "model_int8.pt2"),
        ("onnx", "int8_dynamic", "model_int8.onnx"),
        ("program", "int8_dynamic", "model_int8_program.pt2"),
        ("cuda", "int8_weight_only", "model_int8_weight_only_cuda.pt2"),
        ("cuda", "fp8_dynamic", "model_fp8_dynamic_cuda.pt2"),
    ],
)
def test_names_say_what_is_in_a_file(format: Format, linears: CudaLinears, name: str) -> None:
    assert artifact_name(format, "model_int8.pt2", linears) == name
