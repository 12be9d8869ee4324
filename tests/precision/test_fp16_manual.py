"""fp16 in manual optimization: several optimizers, clipping, accumulation, misuse."""

import copy
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import UserError
from bitladder.precision import Fp16Precision

SCALER: dict[str, Any] = {"init_scale": 2.0**24, "growth_interval": 3}


class Pair(L.LightningModule):
    """Two networks with an optimizer each; the second learns from the first, too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.one, self.two = nn.Linear(6, 4), nn.Linear(4, 4)

    def losses(self, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        x, y = batch
        hidden = self.one(x)
        return (
            nn.functional.cross_entropy(hidden.float(), y),
            nn.functional.cross_entropy(self.two(hidden.detach()).float(), y),
        )

    def both_optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.AdamW(self.one.parameters(), lr=0.01),
            torch.optim.SGD(self.two.parameters(), lr=0.1),
        ]


def test_two_optimizers_equal_a_loop_written_by_hand(
    loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizers = self.both_optimizers()
            for optimizer in optimizers:
                optimizer.zero_grad()
            for loss in self.losses(batch):
                self.manual_backward(loss)
            for optimizer in optimizers:
                self.clip_gradients(optimizer, 0.2, "norm")
                optimizer.step()

    task = Manual()
    by_hand = copy.deepcopy(task)
    scaler = torch.amp.GradScaler("cpu", **SCALER)
    optimizers = by_hand.configure_optimizers()
    for _ in range(5):
        for batch in loader:
            for optimizer in optimizers:
                optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                losses = by_hand.losses(batch)
            for loss in losses:
                scaler.scale(loss).backward()
            for optimizer, net in zip(optimizers, (by_hand.one, by_hand.two), strict=True):
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(net.parameters(), 0.2)
                scaler.step(optimizer)
            scaler.update()

    plugin = Fp16Precision(**SCALER)
    make_trainer(plugin).fit(task, loader)
    for name, value in by_hand.state_dict().items():
        assert torch.equal(value, task.state_dict()[name]), name
    assert plugin.loss_scale == scaler.get_scale()
    assert plugin.skipped_steps > 8


def test_accumulating_over_changes_of_the_scale_adds_the_same_gradients(
    loader: Any, make_trainer: Callable[..., Any]
) -> None:
    """One network steps on every batch and moves the scale; the other sums up five batches."""

    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            one, two = self.both_optimizers()
            loss_one, loss_two = self.losses(batch)
            self.manual_backward(loss_two)
            one.zero_grad()
            self.manual_backward(loss_one)
            one.step()
            if batch_idx % 5 == 4:
                two.step()
                two.zero_grad()

    steady, moving = Manual(), Manual()
    make_trainer(Fp16Precision(init_scale=1024.0), max_epochs=1).fit(steady, loader)
    plugin = Fp16Precision(init_scale=32.0, growth_interval=1)
    make_trainer(plugin, max_epochs=1).fit(moving, loader)
    assert (plugin.loss_scale, plugin.skipped_steps) == (2.0**15, 0)
    torch.testing.assert_close(moving.two.weight, steady.two.weight, rtol=1e-3, atol=1e-5)


def test_an_optimizer_may_step_twice_in_a_training_step(
    loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizer = self.both_optimizers()[0]
            for _ in range(2):
                optimizer.zero_grad()
                self.manual_backward(self.losses(batch)[0])
                optimizer.step()

    plugin = Fp16Precision(init_scale=4.0, growth_interval=5)
    make_trainer(plugin, max_epochs=1).fit(Manual(), loader)
    assert plugin.loss_scale == 4.0 * 2.0**4
    assert plugin.scaler
    assert plugin.scaler.taken_steps == 20


def test_a_closure_runs_and_its_answer_comes_back(
    loader: Any, make_trainer: Callable[..., Any]
) -> None:
    answers = []

    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizers = self.both_optimizers()

            def closure() -> str:
                optimizers[0].zero_grad()
                self.manual_backward(self.losses(batch)[0])
                return "done"

            answers.append(optimizers[0].step(closure=closure))

    plugin = Fp16Precision()
    make_trainer(plugin, max_epochs=1).fit(Manual(), loader)
    assert answers == ["done"] * 10
    assert plugin.scaler
    assert plugin.scaler.taken_steps == 10


def test_backward_past_the_scaler_is_refused(loader: Any, make_trainer: Callable[..., Any]) -> None:
    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizers = self.both_optimizers()
            self.losses(batch)[0].backward()
            optimizers[0].step()

    with pytest.raises(UserError, match=r"write self\.manual_backward\(loss\), not loss\.backward"):
        make_trainer(Fp16Precision()).fit(Manual(), loader)


def test_clipping_without_a_step_is_refused(loader: Any, make_trainer: Callable[..., Any]) -> None:
    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizers = self.both_optimizers()
            self.manual_backward(self.losses(batch)[0])
            self.clip_gradients(optimizers[0], 0.1, "norm")

    with pytest.raises(UserError, match=r"clip only right before optimizer\.step\(\)"):
        make_trainer(Fp16Precision()).fit(Manual(), loader)
