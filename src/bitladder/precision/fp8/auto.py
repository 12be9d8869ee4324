"""`layers=auto`: time every shape of linear once on the device, and keep bf16 where fp8 loses."""

import logging
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import nn

from bitladder.precision.fp8.linear import Fp8Linear
from bitladder.precision.fp8.report import LinearRecord, Seen

MARGIN = 0.95
"""fp8 is taken where its time is below this share of bf16's: less of a gain is noise."""

ROUNDS, CALLS = 7, 10

log = logging.getLogger(__name__)


def measure(layers: Iterable[Fp8Linear]) -> dict[str, tuple[float, float]]:
    """Milliseconds in bf16 and in fp8 by the layer's name; each shape is timed once.

    A layer that was not called since it is watched has no entry.
    """
    shapes: dict[tuple[object, ...], tuple[float, float]] = {}
    times = {}
    for layer in layers:
        seen = layer.fp8_record.seen
        if seen is None:
            continue
        shape = (
            *(layer.in_features, layer.out_features, layer.bias is None),
            *(layer.weight.dtype, layer.weight.requires_grad),
            *(seen.tokens, seen.dtype, seen.compiled),
        )
        if shape not in shapes:
            shapes[shape] = time_linear(layer, seen)
            log.info(
                "fp8, linear of %d x %d with %d tokens: %.3f ms in bf16, %.3f ms in fp8",
                *(layer.in_features, layer.out_features, seen.tokens, *shapes[shape]),
            )
        times[layer.fp8_record.name] = shapes[shape]
    return times


def settle(layers: Iterable[Fp8Linear], times: dict[str, tuple[float, float]]) -> None:
    """Let each layer run in fp8 from now on if that was faster by `MARGIN`, else in bf16.

    Args:
        layers: Fp8 linears.
        times: What :func:`measure` gave for them.
    """
    for layer in layers:
        record = layer.fp8_record
        if record.name in times:
            record.bf16_ms, record.fp8_ms = times[record.name]
            wins = record.fp8_ms < MARGIN * record.bf16_ms
            record.kept = None if wins else _lost(record)
        else:
            record.kept = "its own forward did not run in the first training step"
        layer.fp8_mode = "fp8" if record.kept is None else "bf16"


def time_linear(layer: Fp8Linear, seen: Seen) -> tuple[float, float]:
    """Milliseconds of forward and backward in bf16 and in fp8, of a linear like `layer`.

    Both are timed in turn, compiled if `layer` was called so, and the median counts. Random numbers
    of the run are not touched.
    """
    device = layer.weight.device
    cuda = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(cuda),
        # Every shape is a compilation of its own of one and the same function.
        torch._dynamo.config.patch(recompile_limit=1000),
    ):
        plain, reduced = (_like(layer) for _ in range(2))
        Fp8Linear.adopt(reduced, layer, LinearRecord("", layer.in_features, layer.out_features))
        steps = [_step(linear, seen) for linear in (plain, reduced)]
        for step in steps:
            _milliseconds(step, device)  # compiles, and warms up
        rounds = [[_milliseconds(step, device) for step in steps] for _ in range(ROUNDS)]
    bf16, fp8 = (statistics.median(times) for times in zip(*rounds, strict=True))
    return bf16, fp8


def _like(layer: Fp8Linear) -> nn.Linear:
    linear = nn.Linear(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    return linear.requires_grad_(layer.weight.requires_grad)


def _step(linear: nn.Linear, seen: Seen) -> Callable[[], None]:
    device = linear.weight.device
    shape = (seen.tokens, linear.in_features)
    input = torch.randn(shape, device=device, dtype=seen.dtype, requires_grad=True)
    run = torch.compile(linear, dynamic=False) if seen.compiled else linear
    shape = (seen.tokens, linear.out_features)
    gradient = torch.randn(shape, device=device, dtype=torch.bfloat16)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False):
            output = run(input)
        output.backward(gradient)
        input.grad = None
        linear.zero_grad()

    return step


def _milliseconds(step: Callable[[], None], device: torch.device) -> float:
    """Milliseconds a call, over `CALLS` calls."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(CALLS):
        step()
    _wait(device)
    return (time.perf_counter() - start) * 1000 / CALLS


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _lost(record: LinearRecord) -> str:
    return f"layers=auto: {record.fp8_ms:.3f} ms in fp8, {record.bf16_ms:.3f} ms in bf16"
