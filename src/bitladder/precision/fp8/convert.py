"""Turning the linears of a model into fp8 ones and back, in place."""

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn
from torch.distributed.tensor import DTensor

from bitladder.errors import UserError
from bitladder.precision.fp8.linear import Fp8Linear, fp8_linears
from bitladder.precision.fp8.report import LinearRecord
from bitladder.precision.fp8.selection import select
from bitladder.precision.fp8.upstream import Recipe, float8_template

Policy = Literal["all", "auto"]
"""Which of the linears that can run in fp8 do: all, or those for which it pays."""


def convert_to_fp8(
    model: nn.Module,
    *,
    recipe: Recipe = "tensorwise",
    skip: Sequence[str] = (),
    keep_ends: bool = True,
    layers: Policy = "all",
    emulate: bool = False,
) -> list[LinearRecord]:
    """Let the linears of `model` train in fp8, in place. Without effect on a converted model.

    `Fp8Precision` does this at the right moment by itself, except under FSDP2: there call it in
    `configure_model`, with the plugin's arguments, before `fully_shard`.

    Args:
        model: The whole model. Its parameters, their names and its `state_dict` stay as they are.
        recipe: `tensorwise` (e4m3 forward, e5m2 gradients, one scale a tensor), `rowwise` (e4m3,
            one scale a row) or `rowwise_with_gw_hp` (the same, weight gradients in bf16).
        skip: Name patterns (`fnmatch`) of linears to keep in bf16.
        keep_ends: Keep the first and the last layer of the model in bf16.
        layers: `all`, or `auto`: the first training step runs in bf16 and shows how the linears are
            called, then :func:`~bitladder.precision.fp8.auto.settle` decides.
        emulate: Round to fp8 but multiply in float32: for machines without fp8 units.

    Returns:
        A record of every linear, in the order of the model.

    Raises:
        UserError: an argument cannot be, a pattern matches nothing, the model is sharded already or
            was converted with another recipe.
    """
    if layers not in get_args(Policy):
        raise UserError(f"precision.layers={layers}: write one of {', '.join(get_args(Policy))}")
    template = float8_template(recipe, emulate=emulate)
    records = select(model, skip=skip, keep_ends=keep_ends)
    if converted := fp8_linears(model):
        if any(layer.config != template.config for layer in converted.values()):
            raise UserError(
                f"precision.recipe={recipe}: the model was converted with another recipe or "
                "another emulate; give convert_to_fp8 and Fp8Precision the same arguments"
            )
        return [_as_converted(record, converted) for record in records]
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise UserError(
            "precision=fp8 comes too late for a model that is sharded already; in configure_model, "
            "call bitladder.convert_to_fp8(model) before fully_shard"
        )
    for record in records:
        if record.kept is None:
            linear = model.get_submodule(record.name)
            assert isinstance(linear, nn.Linear)
            layer = Fp8Linear.adopt(linear, template, record)
            layer.fp8_mode = "watch" if layers == "auto" else "fp8"
    if all(record.kept for record in records):
        reasons = "; ".join(f"{record.name}: {record.kept}" for record in records)
        warnings.warn(
            "precision=fp8: no linear of this model can run in fp8, so all of it computes in bf16 "
            f"({reasons or 'there is no linear'})",
            stacklevel=2,
        )
    return records


def release_fp8(model: nn.Module) -> None:
    """Make every fp8 linear of `model` a plain `nn.Linear` again, in place."""
    for layer in fp8_linears(model).values():
        layer.release()


def _as_converted(record: LinearRecord, converted: dict[str, Fp8Linear]) -> LinearRecord:
    """What the earlier conversion says of a linear, under its name in this model."""
    if record.name in converted:
        earlier = converted[record.name].fp8_record
        earlier.name = record.name
        return earlier
    record.kept = record.kept or "left out by the convert_to_fp8 that came before"
    return record
