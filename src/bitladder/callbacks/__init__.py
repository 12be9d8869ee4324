"""Thin Lightning shells around the rooms below them."""

from bitladder.callbacks.finite_guard import FiniteGuard
from bitladder.callbacks.hopeless import StopHopeless
from bitladder.callbacks.last_checkpoint import LastCheckpoint
from bitladder.callbacks.numerics import NumericsMonitor
from bitladder.callbacks.quantization import Quantization
from bitladder.callbacks.random_state import RandomState

__all__ = [
    "FiniteGuard",
    "LastCheckpoint",
    "NumericsMonitor",
    "Quantization",
    "RandomState",
    "StopHopeless",
]
