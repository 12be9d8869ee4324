"""Running an artifact: arrays from files, through the model, into a file."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bitladder.errors import RunError, UserError
from bitladder.quantization.artifacts.open import open_artifact
from bitladder.quantization.signature import check_tensors
from bitladder.quantization.trees import tensors
from bitladder.runs import write_atomic


def predict(
    artifact: Path, inputs: Sequence[Path], output: Path | None, runtime: str | None
) -> None:
    """Run an artifact on arrays; print what it gives and write it, whole or not at all.

    Raises:
        UserError: If a file is missing or not what it should be, or the model does not take the
            arrays.
        RunError: If the artifact fails on arrays that it takes, or the output cannot be written.
    """
    if output is not None:
        _check_output(output)
    given = [_tensor(path) for path in inputs]
    opened = open_artifact(artifact, runtime)
    check_tensors(opened.inputs, given, [str(path) for path in inputs])
    try:
        with torch.no_grad():
            answers = [y.numpy() for y in tensors(opened.run(*given))]
    except Exception as error:  # each library has its own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(f"{artifact} failed: {reason}") from error
    for answer in answers:
        print(f"{answer.dtype} {list(answer.shape)}: {_preview(answer)}")
    if output is not None:
        _write(output, answers)
        print(output)


def _check_output(path: Path) -> None:
    if path.suffix not in (".npy", ".npz"):
        raise UserError(f"--output {path}: write a name that ends in .npy, or in .npz")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"--output {path} is a folder: write a file's name")


def _tensor(path: Path) -> Tensor:
    """An array as a tensor; pickled objects are never loaded."""
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"--input {path}: {reason}") from error
    except Exception as error:  # whatever damaged bytes lead NumPy's reader to
        raise UserError(
            f"--input {path} is no array of numbers: write it with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"--input {path} is an archive of arrays: give an .npy file for each input")
    try:
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        tensor = torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise UserError(f"--input {path} holds {array.dtype}, and models take numbers") from error
    if not tensor.isfinite().all():  # which an integer model would round to some number
        raise UserError(f"--input {path} holds NaN or infinity: no answer to it means anything")
    return tensor


def _preview(answer: np.ndarray) -> str:
    values = [f"{value:.6g}" for value in answer.reshape(-1)[:8].tolist()]
    return ", ".join(values) + (", ..." if answer.size > len(values) else "")


def _write(path: Path, answers: Sequence[np.ndarray]) -> None:
    content = io.BytesIO()
    if path.suffix == ".npz":
        arrays = {f"output_{index}": answer for index, answer in enumerate(answers)}
        np.savez(content, allow_pickle=False, **arrays)
    elif len(answers) == 1:
        np.save(content, answers[0], allow_pickle=False)
    else:
        raise UserError(
            f"--output {path}: the model gives {len(answers)} tensors: write a name that ends in"
            " .npz"
        )
    write_atomic(path, content.getvalue())
