"""A file is proven by a process that has nothing but the file and its library."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitladder.errors import RunError
from bitladder.quantization.artifacts import runtime
from bitladder.quantization.trees import tensors
from bitladder.quantization.verify import tensors_sqnr
from bitladder.quantization.watch import Call


@dataclass(frozen=True)
class Agreement:
    """How far an artifact's answers are from the model's."""

    max_abs_difference: float
    sqnr_db: float


def agreement(kind: str, path: Path, model: Callable[..., Any], calls: Sequence[Call]) -> Agreement:
    """Run an artifact in a fresh process and compare its answers with a model's.

    Args:
        kind: A name that :func:`bitladder.quantization.artifacts.runtime.load` knows.
        path: The artifact.
        model: What it is compared with; fp32 on the CPU.
        calls: Real arguments.

    Raises:
        RunError: If the file does not load or run, overwrites its input, answers differently when
            called twice, or gives tensors of other shapes.
    """
    with torch.no_grad():
        expected = [y for call in calls for y in tensors(model(*call.args, **call.kwargs))]
    answers = [y for answer in answers_of(kind, path, calls) for y in answer]
    if [y.shape for y in answers] != [y.shape for y in expected]:
        raise RunError(f"{path.name} gives tensors of other shapes than the model")
    pairs = list(zip(expected, answers, strict=True))
    differences = [(x.double() - y.double()).abs().max().item() for x, y in pairs]
    return Agreement(max(differences, default=0.0), tensors_sqnr(pairs))


def answers_of(kind: str, path: Path, calls: Sequence[Call]) -> list[list[Tensor]]:
    """The output tensors of each call, from a process that imports nothing of this project.

    Raises:
        RunError: If that process fails; gives the last line of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, answers = Path(folder) / "calls", Path(folder) / "answers"
        content = BytesIO()  # where PyTorch's own writer meets a full disk it ends the process
        torch.save([(call.args, call.kwargs) for call in calls], content)
        given.write_bytes(content.getbuffer())
        # -P: the script's own folder is no place to import from; its onnx.py is not that library.
        command = [sys.executable, "-P", "-W", "ignore", runtime.__file__]
        process = subprocess.run(
            [*command, kind, str(path), str(given), str(answers)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        )
        if process.returncode:
            said = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
            raise RunError(f"{path.name} failed in a fresh process: {said[-1]}")
        return torch.load(answers, weights_only=True)
