"""fp16 equals a loop written by hand in PyTorch, to the bit, overflows included."""

import copy
import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from bitladder.errors import RunError, UserError
from bitladder.precision import Fp16Precision

# From here the scale overflows at once, and again whenever it has grown.
SCALER: dict[str, Any] = {"init_scale": 2.0**24, "growth_interval": 3}
FUSED = partial(torch.optim.AdamW, fused=True)


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def train_by_hand(
    task: Any,
    loader: Any,
    epochs: int = 5,
    accumulate: int = 1,
    clip: Callable[[Any], Any] | None = None,
) -> tuple[torch.amp.GradScaler, list[float]]:
    """A plain loop: autocast, GradScaler, the scheduler stepped with the optimizer alone."""
    device = next(task.parameters()).device
    scaler = torch.amp.GradScaler(device.type, **SCALER)
    optimizer = task.make_optimizer(task.parameters(), lr=0.01)
    scheduler = task.make_scheduler(optimizer) if task.make_scheduler else None
    rates = []
    for _ in range(epochs):
        for index, batch in enumerate(loader):
            if index % accumulate == 0:
                optimizer.zero_grad()
            with torch.autocast(device.type, dtype=torch.float16):
                loss = task.loss([tensor.to(device) for tensor in batch])
            scaler.scale(loss / accumulate).backward()
            if (index + 1) % accumulate == 0 or index + 1 == len(loader):
                scaler.unscale_(optimizer)
                if clip:
                    clip(task.parameters())
                before = scaler.get_scale()
                scaler.step(optimizer)
                scaler.update()
                if scheduler and scaler.get_scale() >= before:
                    scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
    return scaler, rates


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, FUSED], ids=["foreach", "fused"])
@pytest.mark.parametrize(
    ("settings", "by_hand"),
    [
        ({}, {}),
        (
            {"gradient_clip_val": 0.2},
            {"clip": partial(nn.utils.clip_grad_norm_, max_norm=0.2)},
        ),
        (
            {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
            {"clip": partial(nn.utils.clip_grad_value_, clip_value=0.01)},
        ),
        (
            {"gradient_clip_val": 0.2, "accumulate_grad_batches": 4, "max_epochs": 17},
            {
                "clip": partial(nn.utils.clip_grad_norm_, max_norm=0.2),
                "accumulate": 4,
                "epochs": 17,
            },
        ),
    ],
    ids=["plain", "clip-norm", "clip-value", "accumulate"],
)
def test_training_equals_a_loop_written_by_hand(
    optimizer: Any,
    settings: dict[str, Any],
    by_hand: dict[str, Any],
    train_only: Any,
    loader: Any,
    make_trainer: Callable[..., Any],
    accelerator: str,
) -> None:
    task = train_only(optimizer)
    reference, start = copy.deepcopy(task), copy.deepcopy(task)
    scaler, _ = train_by_hand(reference.to(accelerator), loader, **by_hand)
    plugin = Fp16Precision(**SCALER)
    make_trainer(plugin, accelerator=accelerator, **settings).fit(task, loader)
    assert_same_weights(reference.cpu(), task)
    assert plugin.loss_scale == scaler.get_scale()
    assert 8 <= plugin.skipped_steps <= 40
    assert not torch.equal(start.net[0].weight, task.net[0].weight)


def test_fused_and_foreach_learn_the_same_under_clipping(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    one, other = train_only(torch.optim.AdamW), train_only(FUSED)
    for task in (one, other):
        make_trainer(Fp16Precision(**SCALER), gradient_clip_val=0.2).fit(task, loader)
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-2, atol=1e-3)


def test_hooks_see_unscaled_gradients_before_they_are_clipped(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    norms = []

    class Looks(train_only):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            norms.append(nn.utils.get_total_norm(p.grad for p in self.parameters()).item())

    make_trainer(Fp16Precision(), max_epochs=1, gradient_clip_val=0.01).fit(Looks(), loader)
    assert all(0.02 < norm < 10 for norm in norms)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_skipped_step_does_not_advance_the_scheduler(
    accumulate: int, train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    decay = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)
    task = train_only(scheduler=decay)
    reference = copy.deepcopy(task)
    _, rates = train_by_hand(reference, loader, epochs=5, accumulate=accumulate)
    plugin = Fp16Precision(**SCALER)
    make_trainer(plugin, accumulate_grad_batches=accumulate).fit(task, loader)
    assert task.learning_rates == rates
    assert rates[-1] == pytest.approx(0.01 * 0.9 ** (50 // accumulate - plugin.skipped_steps))
    assert_same_weights(reference, task)
    assert "lr_scheduler_step" not in vars(task)


def test_an_epoch_with_some_good_steps_advances_an_epoch_scheduler(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    decay = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    task = train_only(scheduler=decay, interval="epoch")
    # The scale is small enough after 14 skipped steps: the first epoch has no good one.
    plugin = Fp16Precision(init_scale=2.0**34)
    make_trainer(plugin, max_epochs=3).fit(task, loader)
    assert 10 < plugin.skipped_steps < 20
    assert task.learning_rates[::10] == [0.01, 0.01, 0.005]


def test_resuming_restores_scale_growth_and_count(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    decay = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)
    straight = Fp16Precision(**SCALER)
    make_trainer(straight, max_epochs=4).fit(task := train_only(scheduler=decay), loader)

    trainer = make_trainer(first := Fp16Precision(**SCALER), max_epochs=2)
    trainer.fit(train_only(scheduler=decay), loader)
    trainer.save_checkpoint(tmp_path / "half.ckpt")

    class Named(Fp16Precision):
        """The entry in the checkpoint does not depend on the class's name."""

    resumed = Named(**SCALER)
    again = train_only(scheduler=decay)
    make_trainer(resumed, max_epochs=4).fit(again, loader, ckpt_path=tmp_path / "half.ckpt")
    states = [p.scaler.state_dict() for p in (straight, resumed, first) if p.scaler]
    assert states[0] == states[1] != states[2]
    assert resumed.skipped_steps == straight.skipped_steps > first.skipped_steps > 0
    assert again.learning_rates == task.learning_rates[20:]
    assert_same_weights(task, again)


def test_resuming_a_checkpoint_of_lightnings_own_plugin(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    scaler = torch.amp.GradScaler("cpu", **SCALER)
    trainer = make_trainer(MixedPrecision("16-mixed", "cpu", scaler), max_epochs=2)
    trainer.fit(train_only(), loader)
    trainer.save_checkpoint(tmp_path / "theirs.ckpt")

    straight, resumed = train_only(), train_only()
    make_trainer(Fp16Precision(**SCALER), max_epochs=4).fit(straight, loader)
    plugin = Fp16Precision(**SCALER)
    make_trainer(plugin, max_epochs=2).fit(resumed, loader, ckpt_path=tmp_path / "theirs.ckpt")
    assert plugin.loss_scale == scaler.get_scale() != SCALER["init_scale"]
    make_trainer(plugin, max_epochs=4).fit(resumed, loader, ckpt_path=tmp_path / "theirs.ckpt")
    assert_same_weights(straight, resumed)


def test_evaluating_a_checkpoint_leaves_the_scaler_alone(
    task_class: Any, loader: Any, make_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    trainer = make_trainer(plugin := Fp16Precision(**SCALER), max_epochs=1)
    trainer.fit(task_class(), loader, loader)
    trainer.save_checkpoint(tmp_path / "early.ckpt")
    trainer.fit_loop.max_epochs = 2
    trainer.fit(task := task_class(), loader, loader)
    state = plugin.effective()
    trainer.test(task, loader, ckpt_path=tmp_path / "early.ckpt", verbose=False)
    assert plugin.effective() == state


def test_scale_and_skipped_steps_are_logged(train_only: Any, loader: Any, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []

    class Looks(train_only):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            facts = self.trainer.precision_plugin.effective()
            seen.append({key: float(facts[key]) for key in ("loss_scale", "skipped_steps")})
            return super().training_step(batch, batch_idx)

    trainer = L.Trainer(
        plugins=[Fp16Precision(**SCALER)],
        accelerator="cpu",
        devices=1,
        max_epochs=5,
        logger=CSVLogger(tmp_path, name="", version=""),
        log_every_n_steps=4,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Looks(), loader)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(3, 50, 4))
    for row in rows:
        logged = {key: float(row[f"precision/{key}"]) for key in ("loss_scale", "skipped_steps")}
        assert logged == seen[int(row["step"])]
    assert seen[-1]["skipped_steps"] > seen[9]["skipped_steps"] > 0


@pytest.mark.filterwarnings("ignore:.*returned .None.")  # Lightning says so once a process
def test_a_training_step_without_loss_is_passed_over(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Skips(train_only):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
            return None if batch_idx < 3 else super().training_step(batch, batch_idx)

    task, plugin = Skips(), Fp16Precision()
    make_trainer(plugin, max_epochs=1, gradient_clip_val=0.1).fit(task, loader)
    assert plugin.scaler
    assert plugin.scaler.taken_steps == 7


def test_a_loss_that_is_nan_stops_the_run(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Nan(train_only):
        def loss(self, batch: list[Tensor]) -> Tensor:
            return super().loss(batch) * float("nan")

    plugin = Fp16Precision(min_scale=2.0**8)
    with pytest.raises(RunError, match=r"fell to 128, below min_scale=256, with 9 "):
        make_trainer(plugin).fit(Nan(), loader)


def test_lbfgs_is_refused(train_only: Any, loader: Any, make_trainer: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"LBFGS.*write precision=fp32"):
        make_trainer(Fp16Precision()).fit(train_only(torch.optim.LBFGS), loader)


@pytest.mark.parametrize(
    "setting",
    [
        {"init_scale": 0.0},
        {"init_scale": float("nan")},
        {"init_scale": float("inf")},
        {"init_scale": 1e39},
        {"growth_factor": 1.0},
        {"growth_factor": float("inf")},
        {"backoff_factor": 1.0},
        {"growth_interval": 0},
        {"min_scale": 2.0**17},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"cannot be; write a value"):
        Fp16Precision(**setting)
