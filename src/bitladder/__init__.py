"""bitladder: train a network in fewer bits, and see what each step down costs and buys."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitladder.callbacks import (
        FiniteGuard,
        LastCheckpoint,
        NumericsMonitor,
        Quantization,
        RandomState,
    )
    from bitladder.precision import (
        Bf16Precision,
        Bf16TruePrecision,
        Fp8Precision,
        Fp16Precision,
        Fp32Precision,
        Tf32Precision,
        convert_to_fp8,
    )

__version__ = "0.1.0"

__all__ = [
    "Bf16Precision",
    "Bf16TruePrecision",
    "FiniteGuard",
    "Fp8Precision",
    "Fp16Precision",
    "Fp32Precision",
    "LastCheckpoint",
    "NumericsMonitor",
    "Quantization",
    "RandomState",
    "Tf32Precision",
    "convert_to_fp8",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: ``bitladder --help`` must not import torch."""
    if name not in __all__:
        raise AttributeError(f"module 'bitladder' has no attribute {name!r}")
    in_precision = name.endswith("Precision") or name == "convert_to_fp8"
    room = "precision" if in_precision else "callbacks"
    return getattr(import_module(f"bitladder.{room}"), name)
