"""Integer formats: how many bits, signed or not, and the codes they can hold."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class IntegerFormat:
    """A two's-complement (or unsigned) integer of at most eight bits.

    Args:
        name: The name people use, such as ``int8``.
        bits: Number of bits, 2 to 8.
        signed: Whether negative codes exist.
    """

    name: str
    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"{self.name}: bits must be 2 to 8, not {self.bits}")

    @property
    def minimum(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype that stores a code."""
        return torch.int8 if self.signed else torch.uint8


INT8 = IntegerFormat("int8", bits=8, signed=True)
UINT8 = IntegerFormat("uint8", bits=8, signed=False)
