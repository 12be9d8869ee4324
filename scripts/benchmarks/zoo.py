"""Quantizes many kinds of models by every method: prints a table, and with --out saves its figures.

    scripts/bench zoo --out zoo.json
    scripts/bench zoo --methods ptq --models BERT U-Net

The models are small, their weights random but for the few steps that they are trained here, through
the callback and a Trainer, as users do it. The share is that of multiply-adds that int8 kernels do;
SQNR is that of the artifact's outputs against the fake-quantized model's.
"""

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bitladder import Quantization
from bitladder.errors import RunError, UserError
from bitladder.quantization.trees import tensors

sys.path.insert(0, str(Path(__file__).parent))
from models import transformers_zoo, zoo

METHODS = ("dynamic", "ptq", "qat")
STEPS = 8
Batch = Callable[[int], dict[str, Tensor]]


@dataclass
class Row:
    """What came of one model by one method."""

    model: str
    method: str
    layers: int = 0
    """Layers with int8 kernels."""
    left: int = 0
    """Layers with multiply-adds that stay float."""
    int8_share: float = 0.0
    sqnr_db: float = 0.0
    failed: str | None = None


class Task(L.LightningModule):
    """Trains any model to give small outputs: what it learns does not matter here."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """The mean square of every floating output."""
        outputs = [x for x in tensors(self.net(**batch)) if x.is_floating_point()]
        return torch.stack([x.float().square().mean() for x in outputs]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, slow enough to leave the outputs something to say."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


def measure(name: str, build: Callable[[], nn.Module], batch: Batch, method: Any) -> Row:
    """Train and quantize one model; whatever goes wrong is in the row."""
    L.seed_everything(1, verbose=False)
    row = Row(name, method)
    quantization = Quantization(method, target="net", calibration_batches=STEPS)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[quantization],
        )
        data: Any = [batch(4 + step % 2) for step in range(STEPS)]
        try:
            trainer.fit(Task(build().train()), DataLoader(data, batch_size=None))
        except (UserError, RunError) as error:
            row.failed = str(error)
            return row
    assert quantization.deployment is not None
    done = quantization.deployment
    row.layers = sum(record.get("kernel") == "int8" for record in done.layers)
    row.int8_share, row.sqnr_db = done.int8_share, done.output_sqnr_db
    return row


def choose(names: Sequence[str]) -> dict[str, tuple[Callable[[], nn.Module], Batch]]:
    """The models of the zoo by name, those of `transformers` too if it is installed."""
    models = zoo.MODELS | transformers_zoo.MODELS
    unknown = [name for name in names if name not in models]
    if unknown:
        raise SystemExit(f"--models {' '.join(unknown)}: write some of {', '.join(models)}")
    return {name: models[name] for name in names or models}


def main() -> None:
    """Measure every model by every method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--models", nargs="+", default=(), metavar="NAME")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    models = choose(arguments.models)
    rows = []
    print("| model | method | int8 layers | multiply-adds in int8 | SQNR |")
    print("| --- | --- | --- | --- | --- |")
    for name, (build, batch) in models.items():
        for method in arguments.methods:
            row = measure(name, build, batch, method)
            rows.append(row)
            figures = row.failed or f"{row.layers} | {row.int8_share:.1%} | {row.sqnr_db:.1f} dB"
            print(f"| {name} | `{method}` | {figures} |", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
