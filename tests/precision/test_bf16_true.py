"""bf16_true computes in bfloat16 and keeps what would break in float32."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from bitladder.precision import Bf16TruePrecision


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
