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

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fused = fused
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
            torch.optim.AdamW(self.one.parameters(), lr=0.01, fused=self.fused),
            torch.optim.SGD(self.two.parameters(), lr=0.1, fused=self.fused),
        ]


@pytest.mark.parametrize("fused", [False, True], ids=["foreach", "fused"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_two_optimizers_equal_a_loop_written_by_hand(
    accumulate: int,
    fused: bool,
    loader: Any,
    make_trainer: Callable[..., Any],
    accelerator: str,
) -> None:
    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizers = self.both_optimizers()
            if batch_idx % accumulate == 0:
                for optimizer in optimizers:
                    optimizer.zero_grad()
            for loss in self.losses(batch):
                self.manual_backward(loss)
            if batch_idx % accumulate == accumulate - 1:
                for optimizer in optimizers:
                    self.clip_gradients(optimizer, 0.2, "norm")
                    optimizer.step()

    task = Manual(fused)
    by_hand = copy.deepcopy(task).to(accelerator)
    scaler = torch.amp.GradScaler(accelerator, **SCALER)
    optimizers = by_hand.configure_optimizers()
    epochs = 5 * accumulate
    for _ in range(epochs):
        for index, batch in enumerate(loader):
            if index % accumulate == 0:
                for optimizer in optimizers:
                    optimizer.zero_grad()
            with torch.autocast(accelerator, dtype=torch.float16):
                losses = by_hand.losses([x.to(accelerator) for x in batch])
            for loss in losses:
                scaler.scale(loss).backward()
            if index % accumulate == accumulate - 1:
                for optimizer, net in zip(optimizers, (by_hand.one, by_hand.two), strict=True):
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(net.parameters(), 0.2)
                    scaler.step(optimizer)
                scaler.update()

    plugin = Fp16Precision(**SCALER)
    make_trainer(plugin, max_epochs=epochs, accelerator=accelerator).fit(task, loader)
    assert_equal(by_hand.cpu(), task)
    assert plugin.loss_scale == scaler.get_scale()
    assert plugin.skipped_steps > 8


class Adversaries(L.LightningModule):
    """A generator and a discriminator that take turns, as in a GAN."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(4, 6), nn.Linear(6, 1)

    def loss(self, images: Tensor, real: bool) -> Tensor:
        logits = self.discriminator(images).float()
        return nn.functional.binary_cross_entropy_with_logits(
            logits, torch.full_like(logits, float(real))
        )

    def turns(self, x: Tensor) -> list[Callable[[], Tensor]]:
        """The losses of the discriminator and of the generator."""
        noise = x[:, :4]
        return [
            lambda: self.loss(x, True) + self.loss(self.generator(noise).detach(), False),
            lambda: self.loss(self.generator(noise), True),
        ]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        for optimizer, loss in zip(optimizers, self.turns(batch[0]), strict=True):
            self.toggle_optimizer(optimizer)
            self.manual_backward(loss())
            optimizer.step()
            optimizer.zero_grad()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.AdamW(self.discriminator.parameters(), lr=0.01),
            torch.optim.AdamW(self.generator.parameters(), lr=0.01),
        ]


def test_adversaries_equal_a_loop_written_by_hand(
    loader: Any, make_trainer: Callable[..., Any], accelerator: str
) -> None:
    task = Adversaries()
    by_hand = copy.deepcopy(task).to(accelerator)
    scaler = torch.amp.GradScaler(accelerator, **SCALER)
    optimizers = by_hand.configure_optimizers()
    for _ in range(5):
        for x, _ in loader:
            turns = by_hand.turns(x.to(accelerator))
            for optimizer, loss in zip(optimizers, turns, strict=True):
                # With the cache, gradients of a network called twice would be added in float16.
                with torch.autocast(accelerator, dtype=torch.float16, cache_enabled=False):
                    value = loss()
                optimizer.zero_grad()
                scaler.scale(value).backward()
                scaler.step(optimizer)
                scaler.update()

    plugin = Fp16Precision(**SCALER)
    make_trainer(plugin, accelerator=accelerator).fit(task, loader)
    assert_equal(by_hand.cpu(), task)
    assert plugin.loss_scale == scaler.get_scale()
    assert plugin.skipped_steps > 16


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


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


def test_a_step_past_the_scaler_is_refused_during_the_run_alone(
    loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.manual_backward(self.losses(batch)[0])
            optimizer = self.both_optimizers()[0]
            if batch_idx == 3:
                optimizer = optimizer.optimizer
            optimizer.step()

    trainer = make_trainer(Fp16Precision(), max_epochs=1, limit_train_batches=3)
    trainer.fit(Manual(), loader)
    trainer.optimizers[0].step()
    with pytest.raises(UserError, match=r"past the loss scaler.* call its step\(\)$"):
        make_trainer(Fp16Precision()).fit(Manual(), loader)


def test_clipping_without_a_step_is_refused(loader: Any, make_trainer: Callable[..., Any]) -> None:
    class Manual(Pair):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizers = self.both_optimizers()
            self.manual_backward(self.losses(batch)[0])
            self.clip_gradients(optimizers[0], 0.1, "norm")

    with pytest.raises(UserError, match=r"clip only right before optimizer\.step\(\)"):
        make_trainer(Fp16Precision()).fit(Manual(), loader)
