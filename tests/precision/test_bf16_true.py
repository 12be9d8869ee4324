"""bf16_true computes in bfloat16 and keeps what would break in float32."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from bitladder.data import Synthetic
from bitladder.errors import UserError
from bitladder.models import MLP
from bitladder.precision import Bf16TruePrecision
from bitladder.tasks import Classification


class KeepsItsBuffer(nn.Module):
    """Multiplies by 1.001, a number that bfloat16 does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.001))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        scale = self.scale
        super()._apply(fn, recurse)
        self.scale = scale.to(self.scale.device)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() * self.scale).to(x.dtype)


def test_what_is_rounded_and_what_stays_float32(
    task_class: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    seen: dict[str, torch.dtype] = {}

    class Looks(task_class):
        def __init__(self) -> None:
            super().__init__()
            self.net.append(KeepsItsBuffer())
            self.mean = MeanMetric()

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.mean(loss)
            seen.update(x=batch[0].dtype, y=batch[1].dtype, loss=loss.dtype)
            return loss

    task = Looks()
    trainer = make_trainer(Bf16TruePrecision(), max_epochs=1)
    trainer.fit(task, loader, loader)
    trainer.validate(task, loader, verbose=False)
    assert seen == {"x": torch.bfloat16, "y": torch.int64, "loss": torch.float32}
    dtypes = {name: value.dtype for name, value in task.state_dict().items()}
    assert dtypes["net.0.weight"] == dtypes["net.3.bias"] == torch.bfloat16
    for name in ("net.1.weight", "net.1.bias", "net.1.running_mean", "net.1.running_var"):
        assert dtypes[name] == torch.float32, name
    assert task.net[4].scale == torch.tensor(1.001)
    assert task.mean.mean_value.dtype == torch.float32
    assert task.dtype == torch.bfloat16


def test_batchnorm_keeps_every_bit_when_a_run_begins(
    task_class: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    task = task_class()
    task.net[1].running_mean.fill_(1.001)
    with torch.no_grad():
        task.net[1].weight.fill_(1.001)
    for _ in range(2):
        make_trainer(Bf16TruePrecision()).validate(task, loader, verbose=False)
    assert torch.equal(task.net[1].running_mean, torch.full((16,), 1.001))
    assert torch.equal(task.net[1].weight, torch.full((16,), 1.001))


def test_the_default_dtype_is_left_alone(
    task_class: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Looks(task_class):
        def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return torch.zeros(1)

    (first, *_) = make_trainer(Bf16TruePrecision()).predict(Looks(), loader)
    assert first.dtype == torch.float32


class Climbs(L.LightningModule):
    """Weights that every step of SGD, or Adam, moves up by 0.001."""

    def __init__(self, optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(256))
        self.make_optimizer = optimizer

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        return -self.weight.float().sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.parameters(), lr=1e-3)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(("stochastic", "expected"), [(True, 2.0), (False, 1.0)])
def test_small_steps_arrive_with_stochastic_rounding_alone(
    stochastic: bool,
    expected: float,
    optimizer: Any,
    loader: Any,
    make_trainer: Callable[..., Any],
    accelerator: str,
) -> None:
    task, plugin = Climbs(optimizer), Bf16TruePrecision(stochastic_rounding=stochastic)
    make_trainer(plugin, max_epochs=100, accelerator=accelerator).fit(task, loader)
    assert task.weight.dtype == torch.bfloat16
    # Of one weight the standard deviation is 0.08, of the mean of 256 it is 0.005.
    assert task.weight.float().mean().item() == pytest.approx(expected, abs=0.025)
    if not stochastic:
        assert (task.weight == 1.0).all()
    assert plugin.effective()["rounding"] == ("stochastic" if stochastic else "nearest")


def test_stochastic_rounding_resumes_to_the_bit(
    task_class: Any, loader: Any, make_trainer: Callable[..., Any], accelerator: str, tmp_path: Path
) -> None:
    def trainer(max_epochs: int) -> Any:
        plugin = Bf16TruePrecision(stochastic_rounding=True)
        return make_trainer(plugin, max_epochs, accelerator, gradient_clip_val=0.5)

    straight, half, resumed = task_class(), task_class(), task_class()
    torch.manual_seed(3)
    trainer(2).fit(straight, loader, loader)
    torch.manual_seed(3)
    halfway = trainer(1)
    halfway.fit(half, loader, loader)
    halfway.validate(half, loader, verbose=False)  # which changes nothing
    halfway.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    moments = saved["optimizer_states"][0]["state"][0]
    assert moments["exp_avg"].dtype == torch.float32

    torch.manual_seed(4)
    trainer(2).fit(resumed, loader, loader, ckpt_path=tmp_path / "half.ckpt")
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_stochastic_rounding_in_manual_optimization(
    loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Manual(Climbs):
        def __init__(self, raw: bool) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.raw = raw

        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizer = self.optimizers(use_pl_optimizer=not self.raw)
            assert not isinstance(optimizer, list)
            optimizer.zero_grad()
            self.manual_backward(-self.weight.float().sum())
            optimizer.step()

    tasks = [Manual(raw=False), Manual(raw=True), Climbs()]
    for task in tasks:
        torch.manual_seed(3)
        make_trainer(Bf16TruePrecision(stochastic_rounding=True), max_epochs=10).fit(task, loader)
    assert len(tasks[0].weight.unique()) > 1
    assert torch.equal(tasks[0].weight, tasks[1].weight)
    assert torch.equal(tasks[0].weight, tasks[2].weight)


def test_lbfgs_is_refused_with_stochastic_rounding(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    plugin = Bf16TruePrecision(stochastic_rounding=True)
    with pytest.raises(UserError, match=r"LBFGS.*write optimizer=adamw$"):
        make_trainer(plugin).fit(train_only(torch.optim.LBFGS), loader)


class Averages(nn.Module):
    """Adds 1.001, which is to stay float32; its other buffers are not."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(1.001))
        self.register_buffer("other", torch.tensor(1.001))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() + self.shift).to(x.dtype)


def test_declared_buffers_stay_float32(
    task_class: Any, loader: Any, make_trainer: Callable[..., Any], accelerator: str
) -> None:
    task = task_class()
    task.net.append(Averages())
    plugin = Bf16TruePrecision(keep_fp32=["net.4.sh*"])
    trainer = make_trainer(plugin, max_epochs=1, accelerator=accelerator)
    trainer.fit(task, loader, loader)
    trainer.validate(task, loader, verbose=False)
    assert task.net[4].shift.item() == torch.tensor(1.001).item()
    assert task.net[4].shift.dtype == torch.float32
    assert task.net[4].other.dtype == torch.bfloat16
    assert "net.4.shift" in task.state_dict()


@pytest.mark.parametrize("pattern", ["net.4.shfit", "net.4.count", "net.0.weight"])
def test_a_pattern_that_names_no_floating_buffer_is_refused(
    pattern: str, train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    task = train_only()
    task.net.append(Averages())
    says = rf"keep_fp32: '{pattern}' matches no floating buffer; did you mean 'net\.\d\.\w+'"
    with pytest.raises(UserError, match=says):
        make_trainer(Bf16TruePrecision(keep_fp32=[pattern])).fit(task, loader)


def test_the_shipped_task_computes_its_loss_in_float32(make_trainer: Callable[..., Any]) -> None:
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    class Looks(Classification):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            seen.append((self(batch[0]).dtype, loss.dtype))
            return loss

    net = MLP(input_shape=(1, 8, 8), num_classes=4, hidden=[8])
    task = Looks(net, torch.optim.SGD, num_classes=4)
    make_trainer(Bf16TruePrecision(), max_epochs=1).fit(task, datamodule=Synthetic())
    assert set(seen) == {(torch.bfloat16, torch.float32)}


def test_a_loss_in_bfloat16_is_refused(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Coarse(train_only):
        def loss(self, batch: list[Tensor]) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    with pytest.raises(UserError, match=r"the loss is bfloat16; .* of logits\.float\(\)$"):
        make_trainer(Bf16TruePrecision()).fit(Coarse(), loader)


@pytest.mark.slow
def test_torchaos_own_rounding_optimizer_trains_and_resumes(
    loader: Any, make_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    from torchao.optim import _AdamW

    optimizer = partial(_AdamW, weight_decay=0.0, bf16_stochastic_round=True)
    trainer = make_trainer(Bf16TruePrecision(), max_epochs=50)
    trainer.fit(Climbs(optimizer), loader)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    task = Climbs(optimizer)
    make_trainer(Bf16TruePrecision(), max_epochs=100).fit(
        task, loader, ckpt_path=tmp_path / "half.ckpt"
    )
    # Its second moment, in bfloat16, stalls below the square of the gradient: steps are too large.
    assert task.weight.float().mean().item() == pytest.approx(2.15, abs=0.15)
