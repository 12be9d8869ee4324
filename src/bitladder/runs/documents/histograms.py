"""The form of ``histograms.json``: how values lie in the ranges of their grids."""

from typing import Annotated

from pydantic import Field

from bitladder.runs.document import Document, Number, Part


class Histogram(Part):
    """Values in bins of equal width."""

    low: Number
    """The least value: the left edge of the first bin."""
    high: Number
    """The greatest: the right edge of the last."""
    counts: Annotated[list[int], Field(min_length=1, max_length=128)]
    """Values in each bin; one bin where all are equal."""
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None
    """What the grid covers, from and to, the widest where each channel has its own; null where it
    comes at run time."""
    clipped: Number | None
    """The share of the values, in [0, 1], that lie beyond their grid by more than rounding."""


class LayerHistograms(Part):
    """What a layer rounds."""

    name: str
    """In the target."""
    weight: Histogram
    """With the BatchNorm folded in that follows."""
    input: Histogram | None
    """In float, on one batch; null where it is no floating tensor or the layer did not run."""


class HistogramsRecord(Document):
    """How the values of every quantized layer lie in the ranges of their grids."""

    layers: list[LayerHistograms]
    """The first 128, in the model's order."""
