"""Measures what NumericsMonitor costs: prints a table and, with --out, saves the figures.

    scripts/bench numerics --device cpu --out cost.json
    scripts/bench numerics --device gpu --precision fp16

Every layer with a weight is looked at and every format asked about, every tenth step; the cost of
looking at every hundredth follows from the medians of sampled and of other steps of one run. On the
CPU it is processor time, in which other programs do not count. To it is added what the loggers'
wider rows cost in the hundred steps, and the hooks of the steps without a sample.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from bitladder import Bf16Precision, Fp16Precision, Fp32Precision, NumericsMonitor
from bitladder.models import MLP, ResNet, VisionTransformer
from bitladder.tasks import Classification

PRECISIONS = {"fp32": Fp32Precision, "fp16": Fp16Precision, "bf16": Bf16Precision}
EVERY, PER = 10, 100
"""A sample is taken every 10 steps, and its cost spread over 100."""

Image = tuple[int, int, int]
Model = Callable[[Image, int], nn.Module]
CASES: dict[str, list[tuple[str, Model, Image, int]]] = {
    "cpu": [
        ("MLP 256-128, batch 64", MLP, (1, 28, 28), 64),
        ("ResNet of the digits, batch 64", partial(ResNet, widths=(64, 128, 128)), (1, 8, 8), 64),
        ("ViT d 96, 4 layers, batch 64", VisionTransformer, (1, 8, 8), 64),
    ],
    "gpu": [
        (
            "ViT d 512, 8 layers, 256 tokens, batch 64",
            partial(VisionTransformer, dim=512, depth=8, heads=8, mlp_ratio=4.0),
            (3, 32, 32),
            64,
        ),
        (
            "ViT d 1024, 12 layers, 256 tokens, batch 64",
            partial(VisionTransformer, dim=1024, depth=12, heads=16, mlp_ratio=4.0),
            (3, 32, 32),
            64,
        ),
        (
            "ResNet 64-512, 2 blocks a stage, 64x64, batch 256",
            partial(ResNet, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2)),
            (3, 64, 64),
            256,
        ),
    ],
}


class Clock(L.Callback):
    """Notes when each step has ended, all work of the device included; the last callback."""

    def __init__(self, device: str) -> None:
        self.now = time.process_time if device == "cpu" else time.perf_counter
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Wait for the device, and note the time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(self.now())


def measure(
    name: str, model: Model, image: Image, batch: int, device: str, precision: str, steps: int
) -> dict[str, Any]:
    """The figures of one case, times in milliseconds."""
    L.seed_everything(1, verbose=False)
    task = Classification(model(image, 10), partial(torch.optim.AdamW, lr=1e-4))
    data = [(torch.randn(batch, *image), torch.randint(10, (batch,)))] * (steps + 1)
    clock, monitor = Clock(device), NumericsMonitor(EVERY)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=device,
            devices=1,
            plugins=[PRECISIONS[precision]()],
            max_epochs=1,
            logger=CSVLogger(folder, "", ""),
            log_every_n_steps=10,
            callbacks=[monitor, clock],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, DataLoader(data, batch_size=None))  # pyright: ignore[reportArgumentType]
        (header, *_) = (Path(folder) / "metrics.csv").read_text().splitlines()
    columns = [key for key in header.split(",") if key.startswith("numerics/")]
    times = [1e3 * (end - start) for start, end in zip(clock.ends, clock.ends[1:], strict=False)]
    # The first sample makes the file, the first steps warm up.
    sampled = [spent for step, spent in enumerate(times, 1) if step % EVERY == 0 and step > EVERY]
    plain = [spent for step, spent in enumerate(times, 1) if step % EVERY and step > EVERY]
    step = statistics.median(plain)
    sample = statistics.median(sampled) - step
    hooks = idle(trainer, task, monitor)
    rows = writing(columns) - writing([])
    return {
        "case": name,
        "device": device,
        "precision": precision,
        "modules": len({key.split("/")[2] for key in columns if key.count("/") > 1}),
        "columns": len(columns),
        "step_ms": step,
        "sample_ms": sample,
        "idle_step_ms": hooks,
        "rows_ms_per_100_steps": rows,
        "cost_percent": 100 * (sample + PER * hooks + rows) / (PER * step),
    }


def idle(trainer: L.Trainer, task: L.LightningModule, monitor: NumericsMonitor) -> float:
    """Milliseconds that the hooks of a step without a sample take."""
    monitor._next_step = sys.maxsize
    optimizer, loss, calls = trainer.optimizers[0], torch.zeros(()), 10_000
    start = time.process_time()
    for _ in range(calls):
        monitor.on_train_batch_start(trainer, task, None, 0)
        monitor.on_before_backward(trainer, task, loss)
        monitor.on_before_optimizer_step(trainer, task, optimizer)
        monitor.on_train_batch_end(trainer, task, None, None, 0)
    return 1e3 * (time.process_time() - start) / calls


def writing(columns: list[str]) -> float:
    """Milliseconds to write what is logged in a hundred steps: a sample and ten losses."""
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(folder, "", "")
        loss: dict[str, float | torch.Tensor] = {"train/loss_step": 0.123456789}
        for _ in range(7):
            logger.log_metrics(loss | dict.fromkeys(columns, 0.123456789), 0)
            for step in range(1, 10):
                logger.log_metrics(loss, step)
            start = time.process_time()
            logger.save()
            spent.append(1e3 * (time.process_time() - start))
    return statistics.median(spent[1:])


def main() -> None:
    """Measure every case of the device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    results = []
    print(f"| case ({arguments.precision}) | modules | step | one sample | cost at N={PER} |")
    print("| --- | --- | --- | --- | --- |")
    for case in CASES[arguments.device]:
        row = measure(*case, arguments.device, arguments.precision, arguments.steps)
        results.append(row)
        print(
            f"| {row['case']} | {row['modules']} | {row['step_ms']:.2f} ms |"
            f" {row['sample_ms']:.2f} ms | {row['cost_percent']:.2f}% |",
            flush=True,
        )
    if arguments.out:
        device = torch.cuda.get_device_name() if arguments.device == "gpu" else "cpu"
        figures = {"torch": torch.__version__, "device": device, "cases": results}
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
