"""The form of ``quantization.json``: what became of every layer."""

from typing import Literal

from bitladder.runs.document import Document, Number, Part

_Numbers = Number | list[Number] | list[list[Number]]
_Integers = int | list[int] | list[list[int]]


class Artifact(Part):
    """A file that is shipped, and how far its answers are from the model's."""

    format: str
    """`pt2`, `onnx`, `program` or `cuda`."""
    name: str
    """The file, relative to the run directory."""
    bytes: int
    """Its size."""
    sha256: str
    """Its hash, in hex."""
    compared_with: str
    """`reference`: the converted model, run eagerly; `float`: the trained model."""
    max_abs_difference: Number
    """Of any output."""
    sqnr_db: Number
    """Of all outputs, in decibels."""


class Grid(Part):
    """How a tensor is rounded to integers."""

    bits: int
    """2 to 8."""
    scheme: str
    """Signedness, symmetry and granularity, for people."""
    observer: str
    """The class that proposed the range, or `dynamic`."""
    scale: _Numbers | None
    """Of the tensor, of each channel or of each group; null where it comes at run time."""
    zero_point: _Integers | None
    """Likewise."""


class Layer(Part):
    """A layer of the target."""

    name: str
    """In the target; empty for a target that is one layer."""
    type: str
    """The class."""
    quantized: bool
    """Whether it is."""
    reason: str | None
    """Why it stays float, or into which layer it was folded."""
    kernel: Literal["int8", "weight-only", "none"] | None = None
    """What runs it; this and the rest only where it is quantized."""
    kernel_reason: str | None = None
    """Why it is not an int8 kernel."""
    sqnr_db: Number | None = None
    """Of its output, with what the layers before lost, in decibels."""
    local_sqnr_db: Number | None = None
    """Of its output on the same input, in decibels."""
    sensitivity_db: Number | None = None
    """At the model's output with this layer alone rounded, in decibels."""
    multiply_adds: int | None = None
    """In a pass of the first batch that it was compared on."""
    weight: Grid | None = None
    """How its weight is rounded."""
    input: Grid | None = None
    """How its input is rounded; null where it stays float."""


class QuantizationRecord(Document):
    """What became of every layer of the target."""

    method: str
    """`dynamic`, `ptq` or `qat`."""
    target: str | None
    """The submodule that was asked for; null for the one that was found."""
    output_sqnr_db: Number
    """Of the compiled int8 model against the fake-quantized one, in decibels."""
    int8_share: Number
    """The share of the multiply-adds, in [0, 1], that int8 kernels do."""
    artifacts: list[Artifact]
    """What was written."""
    layers: list[Layer]
    """In the model's order."""
