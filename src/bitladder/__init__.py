"""bitladder: train a network in fewer bits, and see what each step down costs and buys."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitladder.callbacks import FiniteGuard, NumericsMonitor, Quantization, RandomState
    from bitladder.precision import (
        Bf16Precision,
        Bf16TruePrecision,
        Fp16Precision,
        Fp32Precision,
        Tf32Precision,
    )

__version__ = "0.1.0"

__all__ = [
    "Bf16Precision",
    "Bf16TruePrecision",
    "FiniteGuard",
    "Fp16Precision",
    "Fp32Precision",
    "NumericsMonitor",
    "Quantization",
    "RandomState",
    "Tf32Precision",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: ``bitladder --help`` must not import torch."""
    if name not in __all__:
        raise AttributeError(f"module 'bitladder' has no attribute {name!r}")
    room = "precision" if name.endswith("Precision") else "callbacks"
    return getattr(import_module(f"bitladder.{room}"), name)
