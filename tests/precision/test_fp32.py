"""fp32 means float32, and leaves the process as it was."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from bitladder.precision import Fp32Precision


def float32_settings() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def restored_settings() -> Iterator[None]:
    matmul, conv = float32_settings()
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = conv


def test_tf32_is_off_during_the_run_and_restored_after_it(
    task_class: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    seen: list[tuple[str, bool]] = []

    class Looks(task_class):
        def on_train_start(self) -> None:
            seen.append(float32_settings())

        def on_test_start(self) -> None:
            seen.append(float32_settings())

    trainer, task = make_trainer(Fp32Precision(), max_epochs=1), Looks()
    trainer.fit(task, loader, loader)
    assert float32_settings() == ("medium", True)
    trainer.test(task, loader, verbose=False)
    assert float32_settings() == ("medium", True)
    assert seen == [("highest", False)] * 2


def test_settings_are_restored_when_the_run_fails(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    torch.set_float32_matmul_precision("high")

    class Fails(train_only):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise ArithmeticError("on purpose")

    with pytest.raises(ArithmeticError):
        make_trainer(Fp32Precision()).fit(Fails(), loader)
    assert float32_settings()[0] == "high"
