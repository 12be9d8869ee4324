"""Writing the artifacts of a run: each to a temporary name, proven, then renamed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bitladder.durable import move_into_place
from bitladder.errors import RunError
from bitladder.quantization.artifacts.cuda import write_cuda
from bitladder.quantization.artifacts.formats import CudaLinears, Format, artifact_name
from bitladder.quantization.artifacts.fresh import Agreement, agreement
from bitladder.quantization.artifacts.onnx import write_onnx
from bitladder.quantization.artifacts.program import write_program
from bitladder.quantization.convert import convert, float_copy
from bitladder.quantization.leftovers import sources_forgotten
from bitladder.quantization.trees import tensors
from bitladder.quantization.watch import Call

RUNTIMES: dict[Format, str] = {
    "pt2": "package",
    "onnx": "onnxruntime",
    "program": "program",
    "cuda": "cuda",
}
_MOST_CALLS = 4


@dataclass(frozen=True)
class Artifact:
    """A file that a run leaves, and how far its answers are from the model's."""

    format: Format
    name: str
    bytes: int
    sha256: str
    compared_with: str
    """``reference``: the converted model, run eagerly; ``float``: the trained model."""
    max_abs_difference: float
    sqnr_db: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@sources_forgotten()
def write_artifacts(
    formats: Sequence[Format],
    package: Path,
    model: nn.Module,
    calls: Sequence[Call],
    *,
    min_sqnr_db: float,
    cuda_linears: CudaLinears,
) -> list[Artifact]:
    """Write every artifact but the ``pt2`` package, which is there, and prove all of them.

    A file is run in a fresh process, on real batches and on a single sample, twice on each, and
    gets its name when its answers are right.

    Args:
        formats: What to write; ``pt2`` is among them.
        package: The ``pt2`` package, written by :func:`bitladder.quantization.deploy`; the other
            files are put beside it.
        model: The prepared model that it was made of.
        calls: Arguments of real passes, the batch of the first at least two.
        min_sqnr_db: The least SQNR of an artifact's outputs.
        cuda_linears: What a ``cuda`` package's linears compute in.

    Raises:
        UserError: If the model cannot be exported.
        RunError: If a file cannot be written or its answers are wrong; it is then not left behind.
    """
    reference, float_model = convert(model), float_copy(model)
    probes = [*calls[:_MOST_CALLS], _one_sample(calls[0])]
    artifacts = []
    for format in formats:
        path = package.with_name(artifact_name(format, package.name, cuda_linears))
        # torch.export.load goes by the suffix.
        built = path if format == "pt2" else path.with_name(f".unproven-{path.name}")
        compared = float_model if format == "cuda" else reference
        try:
            match format:
                case "onnx":
                    write_onnx(reference, calls, built)
                case "program":
                    write_program(reference, calls, built)
                case "cuda":
                    write_cuda(float_model, calls, built, cuda_linears)
            found = _proven(format, built, path.name, compared, probes, min_sqnr_db)
            artifacts.append(
                Artifact(
                    format=format,
                    name=path.name,
                    bytes=built.stat().st_size,
                    sha256=hashlib.sha256(built.read_bytes()).hexdigest(),
                    compared_with="float" if format == "cuda" else "reference",
                    **asdict(found),
                )
            )
        except Exception:
            built.unlink(missing_ok=True)
            raise
        if built != path:
            move_into_place(built, path)
    return artifacts


def _proven(
    format: Format,
    built: Path,
    name: str,
    model: Callable[..., Any],
    calls: Sequence[Call],
    min_sqnr_db: float,
) -> Agreement:
    found = agreement(RUNTIMES[format], built, model, calls)
    if not found.sqnr_db >= min_sqnr_db:
        raise RunError(
            f"{name} differs from the model: SQNR {found.sqnr_db:.1f} dB at the output is below"
            f" {min_sqnr_db:.1f} dB; leave {format} out of quantization.export"
        )
    return found


def _one_sample(call: Call) -> Call:
    """The first sample of a batch: the size that compilers like to treat as a case of its own."""
    batch = next(x.shape[0] for x in tensors((call.args, call.kwargs)) if x.dim() > 0)

    def first(x: Any) -> Any:
        batched = isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == batch
        return x[:1].clone() if batched else x

    return Call(*pytree.tree_map(first, (call.args, call.kwargs)))
