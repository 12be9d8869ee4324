"""Runs an artifact with the library it is for; as a script, proves that it runs without bitladder.

    python -P runtime.py RUNTIME ARTIFACT CALLS ANSWERS

CALLS and ANSWERS are files of ``torch.save``: a list of ``(args, kwargs)``, and a list with the
output tensors of each. Nothing of bitladder is imported here.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Run = Callable[..., Any]


def load(runtime: str, path: str) -> tuple[Run, Any]:
    """Load an artifact: a callable that takes and gives tensors on the CPU, and what it runs.

    Args:
        runtime: ``package`` (AOTInductor for the CPU), ``cuda`` (AOTInductor for CUDA),
            ``program`` (``torch.export``), ``onnxruntime`` or ``openvino``.
        path: The artifact.
    """
    match runtime:
        case "package":
            package = torch._inductor.aoti_load_package(path)
            return package, package
        case "cuda":
            package = torch._inductor.aoti_load_package(path)
            return _on_cuda(package), package
        case "program":
            program = torch.export.load(path)
            return program.module(), program
        case "onnxruntime":
            return _onnxruntime(path)
        case "openvino":
            return _openvino(path)
    raise ValueError(runtime)


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of a tree of tuples, lists and dicts, in its order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _on_cuda(package: Run) -> Run:
    def move(tree: Any, device: str) -> Any:
        return pytree.tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, tree)

    def run(*args: Any, **kwargs: Any) -> Any:
        return move(package(*move(args, "cuda"), **move(kwargs, "cuda")), "cpu")

    return run


def _onnxruntime(path: str) -> tuple[Run, Any]:
    library = importlib.import_module("onnxruntime")
    options = library.SessionOptions()
    # Without VNNI, x86 adds products of uint8 and int8 in 16 bits, which saturate.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = library.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]

    def run(*args: Any, **kwargs: Any) -> list[Tensor]:
        arrays = [x.numpy() for x in tensors((args, kwargs))]
        outputs = session.run(None, dict(zip(names, arrays, strict=True)))
        return [torch.from_numpy(output) for output in outputs]

    return run, session


def _openvino(path: str) -> tuple[Run, Any]:
    library = importlib.import_module("openvino")
    # By default it computes what is not int8 in bf16, where the processor can.
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    model = library.Core().compile_model(path, "CPU", hints)

    def run(*args: Any, **kwargs: Any) -> list[Tensor]:
        outputs = model([x.numpy() for x in tensors((args, kwargs))]).values()
        return [torch.from_numpy(output.copy()) for output in outputs]

    return run, model


def _main(runtime: str, path: str, calls_file: str, answers_file: str) -> None:
    run, _ = load(runtime, path)
    answers = []
    with torch.no_grad():
        for args, kwargs in torch.load(calls_file, weights_only=True):
            inputs = tensors((args, kwargs))
            before = [x.clone() for x in inputs]
            first = [x.clone() for x in tensors(run(*args, **kwargs))]
            if not all(map(_same, inputs, before)):
                sys.exit("overwrites its input tensor")
            if not all(map(_same, first, tensors(run(*args, **kwargs)))):
                sys.exit("gives another answer the second time")
            answers.append(first)
    torch.save(answers, answers_file)


def _same(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, rtol=0.0, atol=0.0, equal_nan=x.is_floating_point())


if __name__ == "__main__":
    _main(*sys.argv[1:])
