"""Under data parallelism the ranks stay equal to the bit."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bitladder import Bf16TruePrecision, Fp16Precision


class Task(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 4)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        torch.randn(1 + self.global_rank)  # the ranks draw different random numbers
        return nn.functional.cross_entropy(self.net(batch[0]).float(), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)

    def on_train_end(self) -> None:
        weights = self.all_gather(self.net.weight.detach().float())
        assert weights.shape[0] == 2
        assert torch.equal(weights[0], weights[1])
        if self.global_rank == 0:
            print("equal")


plugins = {
    "stochastic": lambda: Bf16TruePrecision(stochastic_rounding=True),
    "fp16": lambda: Fp16Precision(init_scale=2.0**24, growth_interval=3),
}
torch.manual_seed(0)
x = torch.randn(160, 6)
loader = DataLoader(TensorDataset(x, x[:, :4].argmax(1)), batch_size=8)
torch.seed()  # every rank has a seed of its own
trainer = L.Trainer(
    plugins=[plugins[sys.argv[1]]()],
    accelerator="cpu",
    devices=2,
    strategy="ddp",
    max_epochs=3,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Task(), loader)
"""


@pytest.mark.slow
@pytest.mark.parametrize("plugin", ["stochastic", "fp16"])
def test_ranks_end_with_the_same_weights(plugin: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    finished = subprocess.run(
        [sys.executable, str(program), plugin],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "equal\n"
