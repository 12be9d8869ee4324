"""What fp8 buys: milliseconds a training step of feed-forward blocks, in bf16 and in fp8.

Four equal models a size, float32 weights under bf16 autocast, fused AdamW, compiled block by block
and timed in turn: bf16; fp8 by torchao's own converter; by bitladder, all linears; by bitladder
with layers=auto. Prints a table and writes it as JSON, with the machine it is of.

    scripts/bench fp8                      # d 512 to 4096, about 3 minutes on an H100
    scripts/bench fp8 --sizes 4096 --recipe rowwise
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo
from torch import Tensor, nn
from torch.nn import functional as F

from bitladder.precision import convert_to_fp8
from bitladder.precision.fp8.auto import measure, settle
from bitladder.precision.fp8.linear import fp8_linears
from bitladder.precision.fp8.upstream import Float8LinearConfig, convert_to_float8_training

ROUNDS = 7
VARIANTS = ("bf16", "torchao", "all", "auto")


class FeedForward(nn.Module):
    """Llama's feed-forward block (Touvron et al., arXiv:2302.13971): SwiGLU, width 3.5 d."""

    def __init__(self, d: int) -> None:
        super().__init__()
        hidden = round(3.5 * d / 16) * 16
        self.norm = nn.RMSNorm(d)
        self.gate = nn.Linear(d, hidden, bias=False)
        self.up = nn.Linear(d, hidden, bias=False)
        self.down = nn.Linear(hidden, d, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Tokens `[tokens, d]` to the same shape."""
        y_ND = self.norm(x_ND)
        return x_ND + self.down(F.silu(self.gate(y_ND)) * self.up(y_ND))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = _parse(arguments)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    rows = []
    print(f"{name}, torch {torch.__version__}, {options.recipe}, {options.tokens} tokens a step")
    print(f"{'d':>5} " + " ".join(f"{f'{v}, ms':>12} {'to bf16':>7}" for v in VARIANTS))
    for d in options.sizes:
        row = _measure_size(d, options, device)
        rows.append(row)
        cells = (f"{row[v]:12.3f} {row[v] / row['bf16']:7.3f}" for v in VARIANTS)
        print(
            f"{d:5d} " + " ".join(cells) + f"   {row['in_fp8']} of {row['linears']} in fp8 (auto)"
        )
    record = {"device": name, "torch": torch.__version__, **vars(options), "rows": rows}
    options.out.write_text(json.dumps(record, indent=2, default=str) + "\n")
    print(options.out)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--tokens", type=int, default=8192, help="rows of a step's input")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10, help="a round; the median round counts")
    parser.add_argument("--recipe", default="tensorwise")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--emulate", action="store_true", help="no fp8 units needed, and no speed")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--out", type=Path, default=Path("benchmark_fp8.json"))
    return parser.parse_args(arguments)


def _measure_size(d: int, options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Milliseconds a step of each variant, and how many linears `auto` runs in fp8."""
    torch.compiler.reset()
    # All variants are compilations of one function, and none may fall back to eager.
    torch._dynamo.config.recompile_limit = 64
    models = {variant: _model(variant, d, options, device) for variant in VARIANTS}
    steps = {v: _step(model, d, options.tokens, device) for v, model in models.items()}
    steps["auto"]()
    layers = list(fp8_linears(models["auto"]).values())
    settle(layers, measure(layers))
    for step in steps.values():
        _milliseconds(step, 3, device)  # compiles, and warms up
    rounds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(ROUNDS):
        for variant, step in steps.items():
            rounds[variant].append(_milliseconds(step, options.steps, device))
    row: dict[str, float] = {v: statistics.median(times) for v, times in rounds.items()}
    in_fp8 = sum(layer.fp8_record.executed for layer in layers)
    return {"d": d, **row, "in_fp8": in_fp8, "linears": len(layers)}


def _model(
    variant: str, d: int, options: argparse.Namespace, device: torch.device
) -> nn.Sequential:
    torch.manual_seed(0)
    with device:
        model = nn.Sequential(*(FeedForward(d) for _ in range(options.blocks)))
    if variant == "torchao":
        config = Float8LinearConfig.from_recipe_name(options.recipe)
        convert_to_float8_training(model, config=replace(config, emulate=options.emulate))
    elif variant in ("all", "auto"):
        convert_to_fp8(
            model,
            recipe=options.recipe,
            layers="auto" if variant == "auto" else "all",
            emulate=options.emulate,
            keep_ends=False,
        )
    if not options.eager:
        for block in model:
            block.compile(dynamic=False)
    return model


def _step(model: nn.Module, d: int, tokens: int, device: torch.device) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    # With a gradient, as behind an embedding: so the first block is compiled like the others.
    x_ND = torch.randn(tokens, d, device=device, requires_grad=True)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False):
            loss = model(x_ND).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        x_ND.grad = None

    return step


def _milliseconds(step: Callable[[], None], count: int, device: torch.device) -> float:
    """Milliseconds a step, over `count` steps."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    _wait(device)
    return (time.perf_counter() - start) * 1000 / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
