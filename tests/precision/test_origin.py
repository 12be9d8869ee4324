"""A fit goes on in the precision that trained its checkpoint, or the user says otherwise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import HalfPrecision, MixedPrecision, Precision

from bitladder.errors import UserError
from bitladder.precision import (
    Bf16Precision,
    Bf16TruePrecision,
    Fp16Precision,
    Fp32Precision,
    LadderPrecision,
)
from bitladder.precision.origin import precisions_of

OURS: list[type[LadderPrecision]] = [
    Fp32Precision,
    Fp16Precision,
    Bf16Precision,
    Bf16TruePrecision,
]
LIGHTNINGS: dict[str, tuple[Callable[[], Precision], set[str]]] = {
    "32-true": (Precision, {"fp32", "bf16"}),
    "bf16-mixed": (lambda: MixedPrecision("bf16-mixed", "cpu"), {"fp32", "bf16"}),
    "16-mixed": (lambda: MixedPrecision("16-mixed", "cpu"), {"fp16"}),
    "bf16-true": (lambda: HalfPrecision("bf16-true"), {"bf16_true"}),
    "16-true": (lambda: HalfPrecision("16-true"), set()),
}
Fit = Callable[..., Any]


@pytest.fixture
def fit(task_class: Any, loader: Any, make_trainer: Callable[..., Any]) -> Fit:
    """Trains an epoch more: fit(plugin, path to resume from, path to save to)."""

    def run(plugin: Precision, resume: Path | None = None, save: Path | None = None) -> Any:
        trainer = make_trainer(plugin, max_epochs=1 if resume is None else 2)
        trainer.fit(task := task_class(), loader, loader, ckpt_path=resume)
        if save is not None:
            trainer.save_checkpoint(save)
        return task

    return run


@pytest.mark.parametrize("first", OURS)
@pytest.mark.parametrize("second", OURS)
def test_another_precision_is_refused_unless_allowed(
    first: type[LadderPrecision], second: type[LadderPrecision], fit: Fit, tmp_path: Path
) -> None:
    path = tmp_path / "first.ckpt"
    fit(first(), save=path)
    if first is second:
        fit(second(), path)
        return
    line = (
        rf"^precision={second.requested}: .* trained in {first.requested};"
        rf".* precision\.allow_precision_change=true to go on in {second.requested}$"
    )
    with pytest.raises(UserError, match=line):
        fit(second(), path)
    task = fit(second(allow_precision_change=True), path)
    assert task.net[0].weight.dtype == second.parameter_dtype
    assert torch.isfinite(task.net[0].weight).all()


@pytest.mark.parametrize("name", LIGHTNINGS)
def test_a_checkpoint_of_lightnings_plugins_is_recognised(
    name: str, fit: Fit, tmp_path: Path
) -> None:
    make, fitting = LIGHTNINGS[name]
    path = tmp_path / "theirs.ckpt"
    fit(make(), save=path)
    for plugin_class in OURS:
        plugin = plugin_class()
        if plugin.requested in fitting:
            fit(plugin, path)
        else:
            with pytest.raises(UserError, match=r"allow_precision_change=true"):
                fit(plugin, path)


@pytest.mark.parametrize("first", OURS)
@pytest.mark.parametrize("second", OURS)
def test_evaluating_in_another_precision_needs_no_leave(
    first: type[LadderPrecision],
    second: type[LadderPrecision],
    fit: Fit,
    task_class: Any,
    loader: Any,
    make_trainer: Callable[..., Any],
    tmp_path: Path,
) -> None:
    path = tmp_path / "first.ckpt"
    trained = fit(first(), save=path)
    task = task_class()
    make_trainer(second()).test(task, loader, ckpt_path=path, verbose=False)
    expected = trained.net[0].weight.to(second.parameter_dtype)
    assert torch.equal(task.net[0].weight, expected)


def test_a_checkpoint_without_weights_tells_nothing() -> None:
    assert precisions_of({}) == ()
    assert precisions_of({"state_dict": {"count": torch.tensor(1)}}) == ()
