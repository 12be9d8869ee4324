from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import lightning as L
import pytest
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from bitladder import FiniteGuard, Fp16Precision, LastCheckpoint, Quantization
from bitladder.callbacks.finite_guard import Action
from bitladder.data import Synthetic
from bitladder.errors import RunError, UserError
from bitladder.quantization import MinMaxObserver, quantized_layers
from bitladder.quantization.recipe import Method

from .conftest import MakeTrainer, Researcher, WithoutArtifact, data, researcher

Batch = tuple[Tensor, Tensor]


class BadData(Synthetic):
    """Its training data turn bad in the second epoch."""

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        x, y = batch
        assert self.trainer is not None
        if self.trainer.training and self.trainer.current_epoch == 1:
            x = x.clone()
            x[0, 0, 0, 0] = torch.nan
        return x, y


def test_nan_in_the_data_stops_before_the_weights_change(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    module = researcher()
    with pytest.raises(RunError, match=r"the data holds NaN or infinity at step \d+ \(epoch 1"):
        make_trainer(FiniteGuard(), epochs=3).fit(module, datamodule=BadData(batch_size=16, seed=1))
    (last,) = tmp_path.rglob("*.ckpt")
    saved = torch.load(last, weights_only=True)["state_dict"]
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
        assert torch.isfinite(tensor).all(), name


def test_a_loss_that_is_nan_stops_before_the_weights_change(make_trainer: MakeTrainer) -> None:
    class BadLoss(Researcher):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * torch.nan if self.global_step == 3 else loss

    module = BadLoss()
    with pytest.raises(RunError, match=r"the loss is nan at step 3 \(epoch 0"):
        make_trainer(FiniteGuard(), epochs=1).fit(module, datamodule=data())
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_an_overflow_of_scaled_gradients_under_fp16_does_not_stop(
    make_trainer: MakeTrainer,
) -> None:
    plugin = Fp16Precision(init_scale=2.0**40)
    make_trainer(FiniteGuard(), epochs=1, plugin=plugin).fit(researcher(), datamodule=data())
    assert plugin.skipped_steps > 0


class BadGradient(Researcher):
    """The loss is finite, and a gradient is not, at one of its batches."""

    bad_batch = 2

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if batch_idx == self.bad_batch and self.current_epoch == 0:
            self.net.head.bias.register_post_accumulate_grad_hook(spoil_once())
        return loss


def spoil_once() -> Callable[[Tensor], None]:
    left = [True]

    def spoil(parameter: Tensor) -> None:
        if left.pop() if left else False:
            assert parameter.grad is not None
            parameter.grad[1] = torch.inf

    return spoil


def bad_gradient() -> BadGradient:
    L.seed_everything(0, verbose=False)
    return BadGradient()


def test_a_bad_gradient_stops_before_the_weights_change(make_trainer: MakeTrainer) -> None:
    module = bad_gradient()
    with pytest.raises(RunError, match=r"gradient of net\.head\.bias holds .* step 2 \(epoch 0\)"):
        make_trainer(FiniteGuard(), epochs=1).fit(module, datamodule=data())
    assert all(torch.isfinite(p).all() for p in module.parameters())


class Watch(L.Callback):
    """Keeps the weights after each batch, and how often the schedule moved."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.schedule: list[int] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        self.weights.append(pl_module.get_parameter("net.head.bias").detach().clone())
        self.schedule += [x.scheduler.last_epoch for x in trainer.lr_scheduler_configs]

    def changed(self) -> list[bool]:
        pairs = zip(self.weights, self.weights[1:], strict=False)
        return [not torch.equal(before, after) for before, after in pairs]


class Scheduled(BadGradient):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def test_a_step_with_a_bad_gradient_is_left_out_and_counted(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    L.seed_everything(0, verbose=False)
    module, guard, watch = Scheduled(), FiniteGuard("skip"), Watch()
    make_trainer(guard, watch, epochs=1).fit(module, datamodule=data())
    assert guard.skipped_steps == 1
    assert watch.changed() == [True, False, *[True] * (len(watch.weights) - 3)]
    assert watch.schedule == [1, 2, 2, *range(3, len(watch.schedule))]
    assert "the gradient of net.head.bias holds NaN or infinity at step 2" in caplog.text
    assert "training_step" not in vars(module)
    assert "lr_scheduler_step" not in vars(module)


def test_a_skipped_step_is_as_if_its_batch_had_not_been(make_trainer: MakeTrainer) -> None:
    """Optimizer state, too: Adam's moments and its count of steps."""
    trainer = make_trainer(FiniteGuard("skip"), epochs=1)
    trainer.fit(bad_gradient(), datamodule=data())
    steps = {state["step"].item() for state in trainer.optimizers[0].state.values()}
    assert steps == {trainer.num_training_batches - 1}


@pytest.mark.filterwarnings("ignore:.*training_step.*returned.*None")
@pytest.mark.parametrize("plugin", [None, Fp16Precision()])
def test_bad_data_are_left_out_and_never_reach_the_model(
    make_trainer: MakeTrainer, plugin: Fp16Precision | None
) -> None:
    module, guard = researcher(), FiniteGuard("skip")
    trainer = make_trainer(guard, epochs=2, plugin=plugin)
    trainer.fit(module, datamodule=BadData(batch_size=16, seed=1))
    assert guard.skipped_steps == trainer.num_training_batches
    assert all(torch.isfinite(x).all() for x in module.state_dict().values())
    if plugin is not None:
        assert plugin.skipped_steps == 0


class BadElsewhere(Synthetic):
    """One batch of a split other than the training's is bad."""

    def __init__(self, split: str, batch: int = 1) -> None:
        super().__init__(batch_size=8, seed=1)
        self.split, self.bad = split, batch

    def spoilt(self, split: str, loader: Iterable[Batch]) -> Any:
        if split != self.split:
            return loader
        batches = [[x.clone(), y] for x, y in loader]
        batches[self.bad][0][2] = torch.nan
        return DataLoader(cast("Any", batches), batch_size=None)

    def val_dataloader(self) -> Any:
        return self.spoilt("validation", super().val_dataloader())

    def test_dataloader(self) -> Any:
        return self.spoilt("test", super().test_dataloader())

    def calibration_dataloader(self) -> Any:
        return self.spoilt("calibration", super().calibration_dataloader())


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_bad_validation_and_test_data_stop_the_run(
    make_trainer: MakeTrainer, action: Action
) -> None:
    bad = r"the validation data holds NaN or infinity \(batch 1\) at step 0 \(epoch 0\): "
    trainer = make_trainer(FiniteGuard(action), epochs=1)
    with pytest.raises(RunError, match=f"{bad}.*no checkpoint was written yet"):
        trainer.fit(researcher(), datamodule=BadElsewhere("validation"))
    for run, split in (("validate", "validation"), ("test", "test")):
        trainer = make_trainer(FiniteGuard(action), epochs=1)
        with pytest.raises(RunError, match=rf"the {split} data .* \(batch 1\)$"):
            getattr(trainer, run)(researcher(), datamodule=BadElsewhere(split))
    batches = BadElsewhere("test")
    batches.setup("test")
    trainer = make_trainer(FiniteGuard(action), epochs=1)
    with pytest.raises(RunError, match=r"the prediction data .* \(batch 1\)$"):
        trainer.predict(researcher(), batches.test_dataloader())


def test_what_is_bad_later_in_the_validation_data_keeps_the_checkpoint(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    trainer = make_trainer(FiniteGuard(), epochs=1)
    trainer.callbacks.insert(0, LastCheckpoint(every_n_steps=1))  # type: ignore[attr-defined]
    with pytest.raises(RunError, match=r"\(batch 2\) at step .* the last checkpoint is good"):
        trainer.fit(researcher(), datamodule=BadElsewhere("validation", 2))
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_calibration_does_as_the_training_with_bad_data(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    bad = BadElsewhere("calibration")
    trainer = make_trainer(FiniteGuard(), Quantization("ptq", target="net"), epochs=1)
    with pytest.raises(RunError, match=r"the calibration data holds .* \(batch 1\)$"):
        trainer.fit(researcher(), datamodule=bad)
    callback = Quantization("ptq", target="net", calibration_batches=3)
    make_trainer(FiniteGuard("skip"), callback, epochs=1).fit(researcher(), datamodule=bad)
    assert (tmp_path / callback.artifact).exists()
    assert len(callback.examples) == 3
    assert all(torch.isfinite(x).all() for call in callback.examples for x in call.args)


def test_manual_optimization_is_watched_as_well(make_trainer: MakeTrainer) -> None:
    class Manual(Researcher):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            optimizer = self.optimizers()
            assert isinstance(optimizer, LightningOptimizer)
            optimizer.zero_grad()
            self.manual_backward(loss * (torch.nan if batch_idx == 2 else 1))
            optimizer.step()
            return loss

    module = Manual()
    with pytest.raises(RunError, match=r"the loss is nan at step 2 \(epoch 0, batch 2\)"):
        make_trainer(FiniteGuard(), epochs=1).fit(module, datamodule=data())
    assert all(torch.isfinite(x).all() for x in module.state_dict().values())


class BadBatches(Synthetic):
    """So many of its first training batches are bad."""

    def __init__(self, bad: int) -> None:
        super().__init__(batch_size=16, seed=1)
        self.bad = bad

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        x, y = batch
        assert self.trainer is not None
        if (
            self.trainer.training
            and self.trainer.fit_loop.epoch_loop.total_batch_idx < self.bad - 1
        ):
            x = torch.full_like(x, torch.nan)
        return x, y


@pytest.mark.filterwarnings("ignore:.*training_step.*returned.*None")
@pytest.mark.parametrize("method", ["ptq", "qat"])
@pytest.mark.parametrize("bad", [1, 3])
def test_quantization_waits_for_the_first_batch_that_runs(
    make_trainer: MakeTrainer, method: Method, bad: int
) -> None:
    module, guard = researcher(), FiniteGuard("skip")
    callback = WithoutArtifact(method, target="net")
    make_trainer(guard, callback, epochs=1).fit(module, datamodule=BadBatches(bad))
    assert guard.skipped_steps == bad
    assert callback.state_dict()["linked"]
    assert quantized_layers(module)["net.conv"].batch_norm is module.net.norm
    assert all(torch.isfinite(x).all() for x in module.state_dict().values())


@pytest.mark.filterwarnings("ignore:.*training_step.*returned.*None")
def test_a_target_that_is_never_called_is_told_at_the_first_batch_that_runs(
    make_trainer: MakeTrainer,
) -> None:
    module = researcher()
    module.spare = nn.Sequential(nn.Linear(2, 2))
    trainer = make_trainer(FiniteGuard("skip"), WithoutArtifact("qat", target="spare"), epochs=1)
    with pytest.raises(UserError, match="never called the forward of Sequential"):
        trainer.fit(module, datamodule=BadBatches(2))
    assert trainer.fit_loop.epoch_loop.total_batch_idx == 2


@pytest.mark.filterwarnings("ignore:.*training_step.*returned.*None")
def test_a_training_whose_batches_are_all_left_out_says_so(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(FiniteGuard("skip"), Quantization("ptq", target="net"), epochs=1)
    with pytest.raises(UserError, match=r"^every batch was left out"):
        trainer.fit(researcher(), datamodule=BadBatches(10**6))


@pytest.mark.filterwarnings("ignore:.*training_step.*returned.*None")
def test_one_bad_batch_of_an_accumulation_leaves_the_step_to_the_others(
    make_trainer: MakeTrainer,
) -> None:
    class BadLoss(Researcher):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * torch.nan if batch_idx == 1 else loss

    L.seed_everything(0, verbose=False)
    module, guard = BadLoss(), FiniteGuard("skip")
    trainer = make_trainer(guard, epochs=1)
    trainer.accumulate_grad_batches = 2
    trainer.fit(module, datamodule=data())
    assert guard.skipped_steps == 1
    assert trainer.global_step == -(-trainer.num_training_batches // 2)
    assert all(torch.isfinite(x).all() for x in module.state_dict().values())


def test_an_overflow_under_fp16_is_left_to_the_scaler_with_skip_too(
    make_trainer: MakeTrainer,
) -> None:
    plugin, guard = Fp16Precision(init_scale=2.0**40), FiniteGuard("skip")
    make_trainer(guard, epochs=1, plugin=plugin).fit(researcher(), datamodule=data())
    assert plugin.skipped_steps > 0
    assert guard.skipped_steps == 0


def test_spoilt_weights_never_replace_a_good_checkpoint(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    class Spoil(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                pl_module.get_parameter("net.head.weight").data[0, 0] = torch.nan

    with pytest.raises(RunError, match=r"net\.head\.weight holds NaN or infinity at step \d+"):
        make_trainer(Spoil(), FiniteGuard("skip"), epochs=3).fit(researcher(), datamodule=data())
    (kept,) = tmp_path.rglob("*.ckpt")
    weights = torch.load(kept, weights_only=True)["state_dict"]
    assert all(torch.isfinite(x).all() for x in weights.values())


def test_spoilt_weights_stop_the_run_at_the_next_look(make_trainer: MakeTrainer) -> None:
    class Spoil(L.Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
        ) -> None:
            pl_module.get_buffer("net.norm.running_var")[3] = torch.inf

    trainer = make_trainer(Spoil(), FiniteGuard(every=2), epochs=1)
    with pytest.raises(RunError, match=r"net\.norm\.running_var holds NaN .* at step 2 "):
        trainer.fit(researcher(), datamodule=data())


def test_a_mask_of_infinities_is_meant_so(make_trainer: MakeTrainer) -> None:
    module = researcher()
    module.register_buffer("mask", torch.full((2, 2), -torch.inf))
    make_trainer(FiniteGuard(every=1), epochs=1).fit(module, datamodule=data())


def test_the_module_that_gives_the_bad_loss_is_named(make_trainer: MakeTrainer) -> None:
    class Bad(Researcher):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
            if batch_idx == 1:
                self.net.norm.register_forward_hook(lambda *x: x[-1] * torch.inf)

    L.seed_everything(0, verbose=False)
    with pytest.raises(RunError, match=r"the loss is nan, as net\.norm gives NaN or infinity, at"):
        make_trainer(FiniteGuard(), epochs=1).fit(Bad(), datamodule=data())


@pytest.mark.parametrize("part", ["weight", "input"])
def test_an_observer_that_saw_infinity_is_named_with_its_layer(
    make_trainer: MakeTrainer, part: str
) -> None:
    class Spoil(L.Callback):
        def on_train_batch_end(
            self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
        ) -> None:
            layer = quantized_layers(pl_module)["net.head"]
            getattr(layer, f"{part}_quantize").observer.observe(torch.tensor([[torch.inf] * 8] * 4))

    quantize = WithoutArtifact("qat", target="net", observer=MinMaxObserver)
    with pytest.raises(RunError, match=rf"observer of net\.head's {part} saw NaN or infinity at"):
        make_trainer(quantize, Spoil(), FiniteGuard(every=1), epochs=1).fit(
            researcher(), datamodule=data()
        )


def test_skipped_steps_are_logged(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(FiniteGuard("skip"), epochs=1)
    loggers, every = [CSVLogger(tmp_path, "", "")], 1
    vars(trainer)["log_every_n_steps"] = every
    setattr(trainer, "loggers", loggers)  # noqa: B010 - it has no setter that types know
    trainer.fit(bad_gradient(), datamodule=data())
    assert trainer.callback_metrics["finite_guard/skipped_steps"] == 1


def test_skipping_what_the_module_steps_itself_is_refused(make_trainer: MakeTrainer) -> None:
    module = researcher()
    module.automatic_optimization = False
    with pytest.raises(UserError, match="this module optimizes manually: write action=stop"):
        make_trainer(FiniteGuard("skip"), epochs=1).fit(module, datamodule=data())


@pytest.mark.parametrize("arguments", [{"action": "ignore"}, {"every": 0}])
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(arguments))}="):
        FiniteGuard(**arguments)
