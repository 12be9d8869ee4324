"""The form of ``precision.json``: what ran in fp8."""

from bitladder.runs.document import Document, Number, Part


class Linear(Part):
    """One linear."""

    name: str
    """In the model."""
    in_features: int
    """Size of an input row."""
    out_features: int
    """Size of an output row."""
    executed: bool
    """Whether its product was computed in fp8 at least once."""
    reason: str | None = None
    """Why not."""
    tokens: int | None = None
    """Rows of its input, where it was timed."""
    bf16_ms: Number | None = None
    """Milliseconds of its forward and backward pass in bf16, where it was timed."""
    fp8_ms: Number | None = None
    """The same in fp8."""


class PrecisionRecord(Document):
    """What ran in fp8, linear by linear."""

    summary: str
    """In one line."""
    recipe: str
    """How tensors are scaled: `tensorwise`, `rowwise` or `rowwise_with_gw_hp`."""
    layers: str
    """`all`, or `auto`: those that were timed to be faster."""
    emulated: bool
    """Whether other hardware computed the same numbers, slowly."""
    linears: list[Linear]
    """In the model's order."""
