"""Two processes: weight averaging, and scores of both models, under data parallelism."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = """
import sys
import warnings
from functools import partial

warnings.filterwarnings("ignore")
import lightning as L
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import nn

from bitladder import Fp32Precision, Quantization
from bitladder.data import Synthetic
from bitladder.quantization import quantized_layers
from bitladder.tasks import Classification

torch.set_num_threads(1)
L.seed_everything(0, verbose=False)
layers = [nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4)]
net = nn.Sequential(nn.Flatten(), *layers)
task = Classification(net, partial(torch.optim.AdamW, lr=0.01), num_classes=4)
callback = Quantization("qat", target="net", validate_float=sys.argv[1] == "both")
if sys.argv[1] == "one":
    callback.on_fit_end = lambda *_: None  # its training is compared, not its artifact
averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, annealing_epochs=1)
trainer = L.Trainer(
    plugins=[Fp32Precision()], accelerator="cpu", devices=2, strategy="ddp", max_epochs=3,
    logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False, callbacks=[callback, averaging],
)
trainer.fit(task, datamodule=Synthetic(batch_size=16, seed=1))
layers = quantized_layers(net).values()
scales = [q.scale.flatten() for x in layers for q in (x.input_quantize, x.weight_quantize)]
torch.save(
    {
        "state": net.state_dict(),
        "scales": torch.cat(scales),
        "metrics": dict(trainer.callback_metrics),
        "int8": callback.deployment and callback.deployment.run(torch.ones(2, 1, 8, 8)),
    },
    f"{sys.argv[1]}{trainer.global_rank}.pt",
)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks_that_average_their_weights_agree_and_score_both_models(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    for scored in ("one", "both"):
        done = subprocess.run(
            [sys.executable, "program.py", scored],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"both{rank}.pt") for rank in (0, 1))
    alone = torch.load(tmp_path / "one0.pt")
    assert torch.equal(first["scales"], second["scales"])
    assert torch.equal(first["int8"], second["int8"])
    for name, x in first["state"].items():
        assert torch.equal(x, second["state"][name]), name
        assert torch.equal(x, alone["state"][name]), f"{name}: the scores changed the training"
    metrics = first["metrics"]
    assert "float/val/loss" in metrics
    assert metrics["float/val/accuracy"] == second["metrics"]["float/val/accuracy"]
    assert metrics["val/loss"] == alone["metrics"]["val/loss"]
