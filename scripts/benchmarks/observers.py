"""Compares the observers: what post-training quantization loses with each, and how long it takes.

    scripts/bench observers                # about two minutes on one core
    scripts/bench observers --epochs 3 --outlier 1000 --out observers.json

The digits' ResNet and ViT are trained once, in float. Each is then calibrated on 32 batches with
each observer for its inputs, and with those that can for its weights, converted, and compared with
the float model on the test images: accuracy, SQNR of the output, seconds of calibration. Every case
is measured a second time with one pixel of the calibration data set far too bright.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from bitladder.data import Digits
from bitladder.data.images import Batch
from bitladder.models import ResNet, VisionTransformer
from bitladder.quantization import (
    Call,
    EntropyObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    Recipe,
    calibrate,
    convert,
    prepare,
)
from bitladder.quantization.verify import output_sqnr
from bitladder.tasks import Classification

BATCHES = 32
INPUTS: list[type[Observer]] = [
    MinMaxObserver,
    MovingAverageObserver,
    HistogramObserver,
    PercentileObserver,
    MSEObserver,
    EntropyObserver,
]
WEIGHTS: list[type[Observer]] = [MSEObserver, PercentileObserver]
CASES = [(make, MinMaxObserver) for make in INPUTS] + [(HistogramObserver, w) for w in WEIGHTS]
MODELS: dict[str, Callable[..., nn.Module]] = {
    "ResNet": partial(ResNet, widths=(64, 128, 128)),
    "ViT": VisionTransformer,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print, write."""
    options = _parse(arguments)
    rows = []
    print("| model | inputs | weights | accuracy | SQNR | with an outlier | calibration |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, build in MODELS.items():
        data, model = _train(build, options)
        batches = [x for x, _ in islice(data.calibration_dataloader(), BATCHES)]
        test = list(data.test_dataloader())
        print(f"| {name} | float | float | {_accuracy(model, test):.4f} | | | |", flush=True)
        for observer, weight_observer in CASES:
            recipe = Recipe(method="ptq", observer=observer, weight_observer=weight_observer)
            row: dict[str, Any] = {
                "model": name,
                "float_accuracy": _accuracy(model, test),
                "observer": observer.__name__,
                "weight_observer": weight_observer.__name__,
                "clean": _measure(model, recipe, batches, test),
                "outlier": _measure(model, recipe, _with_outlier(batches, options.outlier), test),
            }
            rows.append(row)
            print(_line(row), flush=True)
    record = {"torch": torch.__version__, **vars(options), "batches": BATCHES, "rows": rows}
    options.out.write_text(json.dumps(record, indent=2, default=str) + "\n")
    print(options.out)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--outlier", type=float, default=100.0, help="the bright pixel's value")
    parser.add_argument("--out", type=Path, default=Path("benchmark_observers.json"))
    return parser.parse_args(arguments)


def _train(
    build: Callable[..., nn.Module], options: argparse.Namespace
) -> tuple[Digits, nn.Module]:
    """The data, and a model that learned it in float."""
    L.seed_everything(options.seed, verbose=False)
    data = Digits(seed=options.seed)
    model = build(data.input_shape, data.num_classes)
    schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=3e-3)
    optimizer = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=options.epochs,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Classification(model, optimizer, schedule), datamodule=data)
    return data, model.eval()


def _measure(
    model: nn.Module, recipe: Recipe, batches: list[Tensor], test: list[Batch]
) -> dict[str, float]:
    """Accuracy lost, dB at the output, seconds, of int8 calibrated on ``batches``."""
    prepared = copy.deepcopy(model)
    prepare(prepared, recipe, example_args=(batches[0],))
    start = time.process_time()
    calibrate(prepared, batches)
    seconds = time.process_time() - start
    int8 = convert(prepared).eval()
    return {
        "accuracy": _accuracy(int8, test) - _accuracy(model, test),
        "sqnr_db": output_sqnr(model, int8, [Call((x,), {}) for x, _ in test]),
        "calibration_s": seconds,
    }


def _with_outlier(batches: list[Tensor], value: float) -> list[Tensor]:
    """The batches, one pixel in the middle of the first one's first image replaced."""
    first = batches[0].clone()
    first[0, 0, 4, 4] = value
    return [first, *batches[1:]]


def _accuracy(model: nn.Module, test: list[Batch]) -> float:
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in test)
    return right / sum(len(y) for _, y in test)


def _line(row: dict[str, Any]) -> str:
    clean, outlier = row["clean"], row["outlier"]
    names = [row[key].removesuffix("Observer") for key in ("observer", "weight_observer")]
    return (
        f"| {row['model']} | {names[0]} | {names[1]} | {clean['accuracy']:+.4f} |"
        f" {clean['sqnr_db']:.1f} dB | {outlier['accuracy']:+.4f}, {outlier['sqnr_db']:.1f} dB |"
        f" {clean['calibration_s']:.2f} s |"
    )


if __name__ == "__main__":
    main()
