"""The end of quantization: convert, compare, compile, check the kernels, write the artifact."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitladder.errors import RunError, UserError
from bitladder.quantization.compile import compile_package, load_package
from bitladder.quantization.convert import convert, scheme_of
from bitladder.quantization.histograms import histograms
from bitladder.quantization.locate import first_miscompiled
from bitladder.quantization.multiply_adds import MultiplyAdds, multiply_adds
from bitladder.quantization.prepare import LayerPlan, quantized_layers
from bitladder.quantization.reference import ReferenceLayer
from bitladder.quantization.sensitivity import sensitivity
from bitladder.quantization.trees import in_shape_of
from bitladder.quantization.verify import (
    layer_sqnr,
    local_sqnr,
    output_sqnr,
    require_repeatable,
)
from bitladder.quantization.watch import Call, with_samples
from bitladder.quantization.weights import warn_of_lost

FLOAT_AGREEMENT_DB = 60.0
"""Two orders of fp32 arithmetic differ by less noise than this; a miscompilation by more."""


@dataclass
class Deployment:
    """An artifact, loaded, and what is known of it."""

    path: Path
    run: Callable[..., Any]
    """The compiled model: the module's own signature, fp32 on the CPU."""
    output_sqnr_db: float
    """Of the compiled int8 model against the fake-quantized one."""
    int8_share: float
    """The share of the model's multiply-adds, in [0, 1], that int8 kernels do."""
    layers: list[dict[str, Any]]
    """A record a layer, for ``quantization.json``."""
    histograms: list[dict[str, Any]] = field(default_factory=list)
    """How the values of each layer lie in the range of their grid: see ``histograms``."""


def export(
    model: nn.Module, calls: Call | torch.Tensor | Sequence[Call], path: str | Path
) -> Callable[..., Any]:
    """Compile a float or converted model to a package, check it and load it.

    Args:
        model: A float model, or what :func:`bitladder.quantization.convert` gave; eval mode, CPU.
        calls: Example arguments with a batch of at least two, or several: the batch size stays
            free, and every dimension that is not the same in all of them.
        path: The file to write, ``*.pt2``.

    Returns:
        The loaded package, callable as the model is.

    Raises:
        UserError: If the model cannot be exported.
        RunError: If the compiled model does not compute what ``model`` does, answers differently
            when called twice, or overwrites its input. The file is then not left behind.
    """
    if isinstance(calls, torch.Tensor):
        calls = Call((calls,), {})
    calls = [calls] if isinstance(calls, Call) else calls
    path = Path(path)
    kernels = compile_package(model, calls, path)
    layers = [name for name, module in model.named_modules() if isinstance(module, ReferenceLayer)]
    return _checked(path, model, model, calls, FLOAT_AGREEMENT_DB, kernels.in_place(layers))


def deploy(
    model: nn.Module,
    plans: Sequence[LayerPlan],
    calls: Sequence[Call],
    path: Path,
    *,
    min_sqnr_db: float,
) -> Deployment:
    """Turn a calibrated or trained model into an int8 artifact and prove it.

    Args:
        model: A prepared model with known ranges, eval mode, fp32 on the CPU.
        plans: What :func:`bitladder.quantization.prepare` gave.
        calls: Arguments of real passes, one of them with a batch of at least two.
        path: The artifact to write.
        min_sqnr_db: The least SQNR, int8 against fake-quantized, that every layer keeps of its own
            input, and the model at its output.

    Raises:
        UserError: If the model cannot be exported, or no call holds a sample.
        RunError: If int8 differs too much from the fake-quantized model, a layer got no int8
            kernel, or the package is not repeatable; names the layer.
    """
    calls = with_samples(calls)
    if not calls:
        raise UserError("every batch to compare on is empty: give at least one with samples")
    reference = convert(model)
    layers = quantized_layers(model)
    warn_of_lost(layers)
    int8 = {name: layer.kernel == "int8" for name, layer in layers.items()}
    points = _output_names(model)
    local = local_sqnr(model, reference, points, calls)
    for name, db in local.items():
        if not db >= min_sqnr_db:
            raise RunError(
                f"layer {name or 'that is the model'}: int8 differs from fake-quantized, SQNR"
                f" {db:.1f} dB is below {min_sqnr_db:.1f} dB; leave it out with quantization.skip"
            )
    along = layer_sqnr(model, reference, set(points.values()), calls)
    accumulated = {name: along[point] for name, point in points.items()}
    _require_output(output_sqnr(model, reference, calls), min_sqnr_db, local)
    kernels = compile_package(reference, calls, path)
    try:
        kernels.require(name for name in layers if int8[name])
        kernels.require_codes({name: x.matrices for name, x in layers.items() if not int8[name]})
        adding = kernels.in_place(layers)
        run = _checked(path, reference, model, calls, min_sqnr_db, adding)
    except RunError:
        path.unlink(missing_ok=True)
        raise
    counted = multiply_adds(model, calls[0])
    records = [_record(plan, accumulated, local, model, counted) for plan in plans]
    alone = sensitivity(model, calls[0])
    for record in records:
        if record["name"] in alone and record["quantized"]:
            record["sensitivity_db"] = alone[record["name"]]
    db, share = output_sqnr(model, run, calls), counted.share(int8)
    return Deployment(path, run, db, share, records, histograms(model, calls[0]))


def load_like(model: nn.Module, call: Call, path: Path) -> Callable[..., Any]:
    """A package of ``model``, its outputs in the containers that the model itself gives."""
    with torch.no_grad():
        example = model(*call.args, **call.kwargs)
    return in_shape_of(example, load_package(path))


def _checked(
    path: Path,
    model: nn.Module,
    reference: nn.Module,
    calls: Sequence[Call],
    min_sqnr_db: float,
    adding: Sequence[str],
) -> Callable[..., Any]:
    """Load what ``model`` was compiled to, if it computes what ``reference`` does, repeatably."""
    run = load_like(reference, calls[0], path)
    db = output_sqnr(reference, run, calls)
    try:
        if not db >= min_sqnr_db:
            layer = first_miscompiled(model, calls[0], min_sqnr_db)
            where = (
                f"layer {layer} is the first that does" if layer else "each layer alone does not"
            )
            is_x86 = platform.machine().lower() in ("x86_64", "amd64")
            if is_x86 and not torch.cpu._is_vnni_supported():
                where += (
                    "; this processor has no VNNI, without which sums of int8 products saturate:"
                    " convert on one that has"
                )
            raise RunError(
                f"the compiled model differs from the model: SQNR {db:.1f} dB at the output is"
                f" below {min_sqnr_db:.1f} dB; {where}"
            )
        require_repeatable(run, calls[0], adding)
    except RunError:
        path.unlink(missing_ok=True)
        raise
    return run


def _require_output(db: float, min_sqnr_db: float, local: dict[str, float]) -> None:
    """Refuse what right layers may still add up to."""
    if not db >= min_sqnr_db:
        worst = min(local, key=local.__getitem__)
        raise RunError(
            f"int8 differs from fake-quantized at the output, SQNR {db:.1f} dB is below"
            f" {min_sqnr_db:.1f} dB, though each layer alone is right: leave out what differs most"
            f" with quantization.skip=[{worst}], or write a lower quantization.min_sqnr_db"
        )


def _output_names(model: nn.Module) -> dict[str, str]:
    """Where a layer's output appears, by layer: behind its BatchNorm if it has one."""
    names = {module: name for name, module in model.named_modules()}
    return {
        name: name if layer.batch_norm is None else names[layer.batch_norm]
        for name, layer in quantized_layers(model).items()
    }


def _record(
    plan: LayerPlan,
    accumulated: dict[str, float],
    local: dict[str, float],
    model: nn.Module,
    counted: MultiplyAdds,
) -> dict[str, Any]:
    names = {module: name for name, module in model.named_modules()}
    layers = quantized_layers(model)
    folded = {
        names[layer.batch_norm]: name
        for name, layer in layers.items()
        if layer.batch_norm is not None
    }
    record: dict[str, Any] = {
        "name": plan.name,
        "type": plan.type,
        "quantized": plan.quantized,
        "reason": plan.reason,
    }
    if plan.name in folded:
        record["reason"] = f"folded into {folded[plan.name]}"
    if plan.quantized:
        layer = layers[plan.name]
        record |= {"kernel": layer.kernel, "kernel_reason": layer.kernel_reason}
        record |= {"sqnr_db": accumulated[plan.name], "local_sqnr_db": local[plan.name]}
        record["multiply_adds"] = counted.by_layer[plan.name]
        record |= scheme_of(layer)
    return record
