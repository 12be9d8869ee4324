"""Preparing a model: its layers become twins that can be quantized."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bitladder.errors import UserError
from bitladder.patterns import matches, require_matches
from bitladder.quantization.attention import UnpackedAttention, leave_fast_path, projections, unpack
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.layers import TWINS, BatchNorm, QuantizedLayer, twin_of
from bitladder.quantization.modes import evaluating
from bitladder.quantization.recipe import Recipe
from bitladder.quantization.watch import Observed, watch


@dataclass
class LayerPlan:
    """What becomes of one layer, and why."""

    name: str
    type: str
    quantized: bool
    reason: str | None = None
    """Why it stays float; ``None`` for a layer that is quantized."""


def prepare(
    model: nn.Module,
    recipe: Recipe,
    *,
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    example_args: tuple[Any, ...] | None = None,
) -> list[LayerPlan]:
    """Swap the model's quantizable layers for their twins, in place.

    The prepared model computes what it did before, to the bit, until quantizers are switched on
    (:func:`set_quantizing`, :func:`bitladder.quantization.calibrate`). Only an attention adds up in
    another order, and so agrees to rounding.

    Args:
        model: The model, changed in place. Parameter names and the ``state_dict`` stay the same.
        recipe: How to quantize.
        skip: Name patterns (``fnmatch``) of layers to leave in float.
        only: Name patterns of the layers to quantize, all if empty.
        example_args: Arguments of one pass that shows which BatchNorm follows which layer. If
            ``None``, call :func:`link_batch_norms` after watching a pass.

    Returns:
        A plan for every layer with parameters, in the order of the model.

    Raises:
        UserError: If a pattern matches nothing, or no layer can be quantized.
    """
    plans = plan(model, recipe, skip=skip, only=only)
    names = [plan.name for plan in plans if plan.quantized]
    for parent in {model.get_submodule(name.rpartition(".")[0]) for name in names}:
        if type(parent) is nn.MultiheadAttention:
            unpack(parent)
    for layer in (model.get_submodule(name) for name in names):
        twin = twin_of(type(layer))
        assert twin is not None
        twin.adopt(layer, recipe.input_quantizer(), recipe.weight_quantizer())
    for module in model.modules():
        if quantized_layers(module):
            leave_fast_path(module)
    if example_args is not None:
        with torch.no_grad(), evaluating(model), watch(model) as observed:
            model(*example_args)
        link_batch_norms(model, observed)
    return plans


def plan(
    model: nn.Module, recipe: Recipe, *, skip: Sequence[str] = (), only: Sequence[str] = ()
) -> list[LayerPlan]:
    """What :func:`prepare` would make of a model, which is not changed.

    Raises:
        UserError: If a pattern matches nothing, or no layer can be quantized.
    """
    layers = _layers(model)
    require_matches("quantization.skip", skip, layers, "layer")
    require_matches("quantization.only", only, layers, "layer")
    plans = []
    for name, module in layers.items():
        reason = _why_float(name, module, recipe, skip, only)
        plans.append(LayerPlan(name, type(module).__name__, reason is None, reason))
    if not any(plan.quantized for plan in plans):
        reasons = "; ".join(sorted({f"{plan.type}: {plan.reason}" for plan in plans}))
        raise UserError(f"no layer can be quantized ({reasons or 'there is no layer'})")
    return plans


def link_batch_norms(model: nn.Module, observed: Observed) -> None:
    """Fold from now on every BatchNorm that was seen to follow a layer alone."""
    for layer_name, norm_name in observed.batch_norms.items():
        layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
        assert isinstance(layer, QuantizedLayer)
        assert isinstance(norm, BatchNorm)
        layer.fold(norm)


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLayer]:
    """The twins of a prepared model by name, each shared one once."""
    return {name: m for name, m in model.named_modules() if isinstance(m, QuantizedLayer)}


def set_quantizing(model: nn.Module, enabled: bool) -> None:
    """Switch the rounding of inputs and weights on or off."""
    for layer in quantized_layers(model).values():
        layer.input_quantize.quantizing = enabled
        layer.weight_quantize.quantizing = enabled


def set_observing(model: nn.Module, enabled: bool) -> None:
    """Let training passes move the ranges, or freeze them."""
    for layer in quantized_layers(model).values():
        layer.weight_quantize.observing = enabled
        if isinstance(layer.input_quantize, FakeQuantize):
            layer.input_quantize.observing = enabled


def train_quantizers(model: nn.Module) -> None:
    """Let a training pass move the ranges of layers in eval mode, too.

    A backbone that is frozen in eval mode is calibrated by what it sees all the same.
    """
    for layer in quantized_layers(model).values():
        layer.input_quantize.train()
        layer.weight_quantize.train()


def join_ranks(model: nn.Module, enabled: bool = True) -> None:
    """Let the ranks of ``torch.distributed``'s process group learn every input's range together.

    Each batch is observed as if those of all ranks were one, in the pass itself, so the scales that
    the ranks round with are equal at every step: gradients that are averaged belong to one
    model, and a checkpoint of rank 0 holds what all ranks know. Weights are the same everywhere.

    All ranks must then call the layers equally often and in the same order, as SyncBatchNorm asks,
    while ranges move; a frozen range costs nothing.
    """
    for layer in quantized_layers(model).values():
        if isinstance(layer.input_quantize, FakeQuantize):
            layer.input_quantize.observer.joined = enabled


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """What is planned, by name, an attention's projections as if they were modules already."""
    layers: dict[str, nn.Module] = {}
    opaque: set[nn.Module] = set()
    for name, module in model.named_modules():
        if type(module) is nn.MultiheadAttention:
            layers |= {f"{name}.{part}".lstrip("."): p for part, p in projections(module).items()}
        elif isinstance(module, nn.MultiheadAttention) and not isinstance(
            module, UnpackedAttention
        ):
            layers[name] = module  # whether and how it uses its linears is not known
            opaque.add(module.out_proj)
        elif _is_layer(module) and module not in opaque:
            layers[name] = module
    return layers


def _is_layer(module: nn.Module) -> bool:
    if twin_of(type(module)):
        return True
    return not any(True for _ in module.children()) and any(True for _ in module.parameters(False))


def _why_float(
    name: str, module: nn.Module, recipe: Recipe, skip: Iterable[str], only: Sequence[str]
) -> str | None:
    twin = twin_of(type(module))
    if twin is None:
        kinds = (*TWINS, nn.MultiheadAttention)
        base = next((kind.__name__ for kind in kinds if isinstance(module, kind)), None)
        kind = type(module).__name__
        return f"{kind} is a subclass of {base}" if base else f"{kind} has no quantized twin"
    if matches(name, skip):
        return "named in skip"
    if only and not matches(name, only):
        return "not named in only"
    return twin.why_float(module) or recipe.why_not(module)
