"""Two processes: what the Quantization callback promises under data parallelism."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

# Runs on two ranks, or on one process with the ranks' batches joined: the same data either way.
PROGRAM = """
import os
import sys
import warnings
from functools import partial

warnings.filterwarnings("ignore")
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from bitladder import Fp32Precision, Quantization
from bitladder.errors import RunError
from bitladder.quantization import HistogramObserver, MinMaxObserver, quantized_layers

method, observer, norm, failing, processes = sys.argv[1:]
processes = int(processes)
torch.set_num_threads(1)


class Batches(Dataset):
    '''Whole batches; those of odd number are ten times larger.'''

    def __init__(self, each):
        x = torch.randn(24, 8, 6, generator=torch.Generator().manual_seed(1)).abs()
        self.labels = x.reshape(24, 8, 6)[:, :, :4].argmax(2)
        x[1::2] *= 10
        self.x, self.each = x, each

    def __len__(self):
        return 24 // self.each

    def __getitem__(self, index):
        part = slice(index * self.each, (index + 1) * self.each)
        return self.x[part].flatten(0, 1), self.labels[part].flatten()


class Task(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)]
        self.net = nn.Sequential(*(x for x in layers if norm == "norm" or x is not layers[1]))
        self.scales, self.outputs = [], []

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        self.outputs.append(self.net(batch[0]))

    def on_before_backward(self, loss):  # the scales that this step's forward rounded with
        layers = quantized_layers(self.net).values()
        used = [q.scale.flatten() for x in layers for q in (x.input_quantize, x.weight_quantize)]
        self.scales.append(torch.cat(used))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.001)


observers = {"default": None, "histogram": HistogramObserver, "minmax": MinMaxObserver}
sqnr = 500.0 if failing == "fails" else 15.0
callback = Quantization(
    method, target="net", observer=observers[observer], calibration_batches=8 // (3 - processes),
    min_sqnr_db=sqnr,
)
trainer = L.Trainer(
    plugins=[Fp32Precision()], accelerator="cpu", devices=processes, max_epochs=2, logger=False,
    strategy="ddp" if processes > 1 else "auto", enable_progress_bar=False, callbacks=[callback],
    enable_checkpointing=False, enable_model_summary=False, use_distributed_sampler=False,
)
mine = range(int(os.environ.get("LOCAL_RANK", 0)), 24 // (3 - processes), processes)
loader = DataLoader(Batches(3 - processes), batch_size=None, sampler=mine)
task = Task()
try:
    trainer.fit(task, loader)
except RunError as error:
    torch.save(str(error), f"error{trainer.global_rank}.pt")
    if trainer.is_global_zero:
        raise
    os._exit(0)
trainer.test(task, DataLoader(Batches(2), batch_size=None), verbose=False)
deployment = callback.deployment
torch.save(
    {
        "scales": task.scales,
        "layers": deployment.layers,
        "state": task.state_dict(),
        "int8": deployment.run(Batches(1).x[:4].flatten(0, 1)),
        "tested_int8": all(
            torch.equal(y, deployment.run(x))
            for y, (x, _) in zip(task.outputs, trainer.test_dataloaders)
        ),
    },
    f"rank{trainer.global_rank}of{processes}.pt",
)
if processes > 1:
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def results(folder: Path, *arguments: str, processes: int) -> list[dict[str, Any]]:
    done = run(folder, *arguments, "ends", str(processes))
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}of{processes}.pt") for rank in range(processes)]


def ranges(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    parts = [x[part] for x in result["layers"] if x["quantized"] for part in ("input", "weight")]
    return [(part["scale"], part["zero_point"]) for part in parts]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "observer"),
    [("qat", "default"), ("qat", "histogram"), ("ptq", "default"), ("ptq", "minmax")],
)
def test_two_ranks_give_the_int8_model_of_one_process_on_the_joined_data(
    tmp_path: Path, method: str, observer: str
) -> None:
    first, second = results(tmp_path, method, observer, "plain", processes=2)
    (alone,) = results(tmp_path, method, observer, "plain", processes=1)
    assert ranges(first) == ranges(second)
    assert first["tested_int8"]
    assert second["tested_int8"]
    assert len(first["scales"]) == 24
    for one, other, joined in zip(first["scales"], second["scales"], alone["scales"], strict=True):
        assert torch.equal(one, other), "the ranks rounded with different scales"
        torch.testing.assert_close(one, joined, rtol=1e-5, atol=1e-8)
    for (scale, zero), (expected, expected_zero) in zip(ranges(first), ranges(alone), strict=True):
        assert scale == pytest.approx(expected, rel=1e-5)
        assert zero == expected_zero
    assert torch.equal(first["int8"], second["int8"])
    torch.testing.assert_close(first["int8"], alone["int8"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qat", "ptq"])
def test_batchnorm_statistics_are_those_of_both_ranks(tmp_path: Path, method: str) -> None:
    first, second = results(tmp_path, method, "default", "norm", processes=2)
    assert ranges(first) == ranges(second)
    for one, other in zip(first["scales"], second["scales"], strict=True):
        assert torch.equal(one, other), "the ranks rounded with different scales"
    assert all(torch.equal(x, second["state"][name]) for name, x in first["state"].items())
    folded = [x["reason"] for x in first["layers"] if x["type"] == "BatchNorm1d"]
    assert folded == ["folded into 0"]
    assert first["tested_int8"]


@pytest.mark.slow
def test_a_conversion_that_fails_on_rank_0_ends_both_with_its_error(tmp_path: Path) -> None:
    done = run(tmp_path, "ptq", "default", "plain", "fails", "2")
    assert done.returncode == 1
    assert "is below 500.0 dB" in done.stderr
    errors = [torch.load(tmp_path / f"error{rank}.pt") for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert "is below 500.0 dB" in errors[0]
