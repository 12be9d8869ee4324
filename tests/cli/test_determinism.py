import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from bitladder.cli.determinism import differing
from bitladder.cli.schema import Config
from bitladder.data import Synthetic
from bitladder.errors import UserError
from bitladder.models import MLP
from bitladder.tasks import Classification

CPU = torch.device("cpu")


def parts(task: L.LightningModule) -> Any:
    return SimpleNamespace(task=task, data=Synthetic())


class Puts(torch.autograd.Function):
    """Calls what has no deterministic implementation, in its backward pass alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return gradient.clone().put_(torch.tensor([0]), gradient.new_zeros(1))


class Task(L.LightningModule):
    def __init__(self, broken: bool = False, refused: bool = True) -> None:
        super().__init__()
        self.net = MLP([1, 8, 8], 4, hidden=[8], dropout=0.5)
        self.broken, self.refused = broken, refused

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if self.broken:
            raise RuntimeError("another error")
        y = self.net(batch[0])
        self.log("loss", y.sum())
        return (Puts.apply(y) if self.refused else y).sum()


@pytest.fixture
def deterministic(config: Callable[..., Config]) -> Callable[..., Config]:
    def make(**trainer: Any) -> Config:
        return config(trainer={"_target_": "lightning.Trainer", "deterministic": True} | trainer)

    return make


def test_an_operation_without_a_deterministic_form_is_told_before_the_run(
    deterministic: Callable[..., Config],
) -> None:
    with pytest.raises(UserError, match=r"deterministic=true: put_ has no deterministic.* on cpu"):
        differing(deterministic(), parts(Task()), CPU)
    assert len(differing(deterministic(deterministic="warn"), parts(Task()), CPU)) == 1
    # Other errors are the training's to tell.
    assert differing(deterministic(), parts(Task(broken=True)), CPU) == []


def test_trying_leaves_no_trace(deterministic: Callable[..., Config]) -> None:
    task = Classification(
        MLP([1, 8, 8], 4, hidden=[8], dropout=0.5), torch.optim.SGD, None, num_classes=4
    )
    before = {name: value.clone() for name, value in task.state_dict().items()}
    tasks = (task, Task(refused=False))
    state = torch.get_rng_state()
    for made in tasks:
        assert differing(deterministic(), parts(made), CPU) == []
        assert torch.equal(torch.get_rng_state(), state)
        assert not torch.are_deterministic_algorithms_enabled()
    assert all(parameter.grad is None for parameter in task.parameters())
    for name, value in task.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("value", [False, None, "warn"])
def test_a_run_that_makes_no_promise_says_so(config: Callable[..., Config], value: object) -> None:
    made = config(trainer={"_target_": "lightning.Trainer", "deterministic": value})
    (reason,) = differing(made, parts(Task()), CPU)
    assert "write trainer.deterministic=true" in reason


def test_what_a_clock_decides_is_said(deterministic: Callable[..., Config]) -> None:
    timed = deterministic(max_time="00:00:10:00").model_copy(
        update={"precision": {"_target_": "bitladder.precision.Fp8Precision", "layers": "auto"}}
    )
    reasons = differing(timed, parts(Task(refused=False)), CPU)
    assert [re.split("[= ]", reason)[0] for reason in reasons] == [
        "precision.layers",
        "trainer.max_time",
    ]


@pytest.mark.gpu
def test_an_operation_of_cuda_without_a_deterministic_form_is_told(
    deterministic: Callable[..., Config],
) -> None:
    class Pools(Task):
        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            x = batch[0].requires_grad_()
            return torch.nn.functional.adaptive_avg_pool2d(x, 3).sum()

    with pytest.raises(UserError, match=r"has no deterministic implementation on cuda"):
        differing(deterministic(), parts(Pools()), torch.device("cuda"))
    benchmark = deterministic(benchmark=True)
    assert len(differing(benchmark, parts(Task(refused=False)), torch.device("cuda"))) == 1
