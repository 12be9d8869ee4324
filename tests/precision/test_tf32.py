"""tf32 runs on GPUs that have it, or not at all."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bitladder.errors import UserError
from bitladder.precision import Fp32Precision, Tf32Precision


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_the_cpu_is_refused(
    verb: str, task_class: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    loaders = (loader, loader) if verb == "fit" else (loader,)
    run = getattr(make_trainer(Tf32Precision()), verb)
    with pytest.raises(UserError, match=r"^precision=tf32 needs an NVIDIA GPU.*precision=fp32$"):
        run(task_class(), *loaders)


def test_tf32_is_on_during_the_run_and_restored_after_it(
    train_only: Any,
    loader: Any,
    make_trainer: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tf32Precision, "check_device", lambda self, device: None)
    before = torch.get_float32_matmul_precision()
    seen: list[tuple[str, bool]] = []

    class Looks(train_only):
        def on_train_start(self) -> None:
            seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))

    plugin = Tf32Precision()
    make_trainer(plugin, max_epochs=1).fit(Looks(), loader)
    assert seen == [("high", True)]
    assert torch.get_float32_matmul_precision() == before
    assert plugin.effective()["compute"] == "tf32"


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("plugin", "expected"), [(Fp32Precision(), True), (Tf32Precision(), False)]
)
def test_products_and_convolutions_lose_bits_in_tf32_alone(
    plugin: Any, expected: bool, task_class: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    class Computes(task_class):
        def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            x = torch.full((64, 64), 1 + 2.0**-12, device=self.device)
            eye = torch.eye(64, device=self.device)
            product = x @ eye
            image = x.reshape(1, 64, 8, 8)
            convolved = torch.nn.functional.conv2d(image, eye.reshape(64, 64, 1, 1))
            return torch.stack([(product == x).all(), (convolved == image).all()])

    (first, *_) = make_trainer(plugin, accelerator="cuda").predict(Computes(), loader)
    assert first.tolist() == [expected, expected]
