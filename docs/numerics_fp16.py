"""Draws docs/numerics_fp16.svg: gradients in fp16, without a scale and with the loss scaler.

    .venv/bin/python docs/numerics_fp16.py

Trains the same small network twice on the handwritten digits (half a minute on one core), with
`NumericsMonitor` at every fifth step, and draws what it logged of the gradients of the last layer.
"""

import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from bitladder import Fp16Precision, NumericsMonitor
from bitladder.data import Digits
from bitladder.tasks import Classification

PICTURE = Path(__file__).with_suffix(".svg")
LAYER = "net.5"
STEPS, EVERY = 600, 5
WIDTH, HEIGHT, MARGIN, GAP = 330, 190, 46, 44
COLORS = {"zero": "#c2452d", "subnormal": "#eda247", "normal": "#4c8f73"}

Rows = list[dict[str, float]]


def train(plugin: Fp16Precision, folder: str) -> Rows:
    """What the monitor logged of the gradients of `LAYER`, sample by sample."""
    L.seed_everything(1, verbose=False)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )
    trainer = L.Trainer(
        accelerator="cpu",
        plugins=[plugin],
        max_steps=STEPS,
        logger=CSVLogger(folder, "", ""),
        callbacks=[NumericsMonitor(EVERY, modules=[LAYER])],
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    task = Classification(net, partial(torch.optim.AdamW, lr=0.003))
    trainer.fit(task, datamodule=Digits(batch_size=256))
    start = f"numerics/gradient/{LAYER}/"
    with (Path(folder) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row[f"{start}zero"]]
    return [
        {key.removeprefix(start): float(row[key]) for key in row if key.startswith(start)}
        | {"step": float(row["step"])}
        for row in rows
    ]


def panel(rows: Rows, left: int, title: str, dashed: str | None) -> str:
    """One chart of stacked shares: zeros below, subnormal numbers above them, the rest normal."""
    top = MARGIN

    def point(row: dict[str, float], share: float) -> str:
        x = left + WIDTH * row["step"] / (STEPS - EVERY)
        return f"{x:.1f},{top + HEIGHT * (1 - share):.1f}"

    def line(share: Callable[[dict[str, float]], float], rows: Sequence[dict[str, float]]) -> str:
        return " ".join(point(row, share(row)) for row in rows)

    def area(
        low: Callable[[dict[str, float]], float], high: Callable[[dict[str, float]], float], of: str
    ) -> str:
        points = f"{line(high, rows)} {line(low, rows[::-1])}"
        return f'<polygon points="{points}" fill="{COLORS[of]}"/>'

    parts = [
        f'<text x="{left}" y="{top - 12}" font-weight="600">{title}</text>',
        area(lambda row: 0.0, lambda row: row["zero"], "zero"),
        area(lambda row: row["zero"], lambda row: row["zero"] + row["subnormal"], "subnormal"),
        area(lambda row: row["zero"] + row["subnormal"], lambda row: 1.0, "normal"),
    ]
    if dashed is not None:
        points = line(lambda row: row[dashed], rows)
        style = 'fill="none" stroke="#111" stroke-width="1.6" stroke-dasharray="5 4"'
        parts.append(f'<polyline points="{points}" {style}/>')
    for share in (0.0, 0.5, 1.0):
        y = top + HEIGHT * (1 - share)
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for step in (0, STEPS // 3, 2 * STEPS // 3, STEPS):
        x = left + WIDTH * step / STEPS
        y = top + HEIGHT + 16
        parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{step}</text>')
    x, y = left + WIDTH / 2, top + HEIGHT + 32
    parts.append(f'<text x="{x}" y="{y}" text-anchor="middle">optimizer step</text>')
    return "\n".join(parts)


def legend() -> str:
    """What the colours and the dashed line are."""
    y = MARGIN + HEIGHT + 62
    entries = [
        (COLORS["zero"], "zero"),
        (COLORS["subnormal"], "subnormal"),
        (COLORS["normal"], "normal"),
    ]
    parts = []
    for index, (color, name) in enumerate(entries):
        x = MARGIN + 100 * index
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{color}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}">{name}</text>')
    x = MARGIN + WIDTH + GAP
    style = 'stroke="#111" stroke-width="1.6" stroke-dasharray="5 4"'
    parts.append(f'<line x1="{x}" x2="{x + 30}" y1="{y - 4}" y2="{y - 4}" {style}/>')
    parts.append(f'<text x="{x + 38}" y="{y}">would be zero without the scale</text>')
    return "\n".join(parts)


def main() -> None:
    """Train twice, and draw."""
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        bare = train(Fp16Precision(init_scale=1.0, growth_interval=10**9), one)
        scaled = train(Fp16Precision(), other)
    width, height = MARGIN + 2 * WIDTH + GAP + 20, MARGIN + HEIGHT + 76
    right = MARGIN + WIDTH + GAP
    font = 'font-family="system-ui, sans-serif" font-size="12" fill="#111"'
    PICTURE.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n'
        f"{panel(bare, MARGIN, 'Gradients in fp16, loss scale 1', None)}\n"
        f"{panel(scaled, right, 'Gradients in fp16, loss scale 65536', 'fp16/underflow')}\n"
        f"{legend()}\n</svg>\n"
    )
    for name, row in (("loss scale 1", bare[-1]), ("loss scale 65536", scaled[-1])):
        shares = {key: f"{row[key]:.3f}" for key in ("zero", "subnormal", "fp16/underflow")}
        print(f"{name}, step {row['step']}: {shares}")
    print(PICTURE)


if __name__ == "__main__":
    main()
