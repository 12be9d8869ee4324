"""Training in fp8 and shipping int8: what the twins of quantization do under `Fp8Precision`."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from bitladder import Fp8Precision, Quantization
from bitladder.precision.fp8.linear import Fp8Linear
from bitladder.quantization.layers import QuantLinear


class Perceptron(L.LightningModule):
    """Learns the larger of two halves of its input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = (32, 64, 32, 2)
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = batch[0]
        y = (x[:, :16].sum(1) > x[:, 16:].sum(1)).long()
        return nn.functional.cross_entropy(self.net(x).float(), y)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/mean", self.net(batch[0]).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Fp8Precision]:
    def fit(module: Perceptron, **quantization: Any) -> Fp8Precision:
        plugin = Fp8Precision(emulate=True)
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=2,
            plugins=[plugin],
            callbacks=[Quantization(**quantization)],
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches = list(torch.randn(8, 16, 32, generator=torch.Generator().manual_seed(1)))
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.cat(batches)), batch_size=16
        )
        trainer.fit(module, loader)
        (scores,) = trainer.test(module, loader, verbose=False)
        assert scores
        return plugin

    return fit


def test_a_model_trained_in_fp8_ends_int8(fit: Any, tmp_path: Path) -> None:
    module = Perceptron()
    plugin = fit(module, method="ptq", calibration_batches=4)
    assert [record.executed for record in plugin.records] == [False, True, False]
    assert (tmp_path / "model_int8.pt2").exists()
    assert type(module.net[2]) is QuantLinear
    assert not isinstance(module.net[2], Fp8Linear)


def test_layers_compute_in_fp8_until_qat_rounds_them(fit: Any) -> None:
    ran: list[bool] = []

    def note(layer: nn.Module, *args: Any) -> None:
        if isinstance(layer, Fp8Linear) and torch.is_grad_enabled():
            ran.append(layer.fp8_record.executed)
            layer.fp8_record.executed = False

    module = Perceptron()
    module.net[2].register_forward_hook(note)
    fit(module, method="qat", start=1)
    assert ran == [True] * 8 + [False] * 8
