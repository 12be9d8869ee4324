"""What became of every linear of a model, and why."""

from dataclasses import dataclass
from typing import Any

_NEVER_RAN = "its forward never ran in training, or only rounded to integers"


@dataclass
class Seen:
    """How a linear was called in training.

    Attributes:
        tokens: rows of its input, all leading dimensions together.
        dtype: of its input, as `torch.dtype`.
        compiled: whether the call was traced by `torch.compile`.
    """

    tokens: int
    dtype: Any
    compiled: bool


@dataclass
class LinearRecord:
    """One linear: whether it is to run in fp8, and whether it did.

    Attributes:
        name: In the model.
        in_features: Size of an input row.
        out_features: Size of an output row.
        kept: Why it stays in bf16; None for one that is to run in fp8.
        executed: Whether its product was computed in fp8 at least once.
        seen: How it was called, where `layers=auto` wanted to know.
        bf16_ms: Milliseconds of its forward and backward pass in bf16, where it was timed.
        fp8_ms: The same in fp8.
    """

    name: str
    in_features: int
    out_features: int
    kept: str | None = None
    executed: bool = False
    seen: Seen | None = None
    bf16_ms: float | None = None
    fp8_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `reason` says why one did not run in fp8."""
        facts: dict[str, Any] = {
            "name": self.name,
            "in_features": self.in_features,
            "out_features": self.out_features,
            "executed": self.executed,
        }
        if not self.executed:
            facts["reason"] = self.kept or _NEVER_RAN
        if self.seen is not None and self.bf16_ms is not None:
            facts |= {
                "tokens": self.seen.tokens,
                "bf16_ms": self.bf16_ms,
                "fp8_ms": self.fp8_ms,
            }
        return facts
