"""What a user may ask of the grids of weights and inputs, and which of it has an int8 kernel."""

from dataclasses import dataclass
from typing import Literal, get_args

from bitladder.errors import UserError
from bitladder.formats import IntegerFormat
from bitladder.quantization.scheme import Scheme

WeightsPer = Literal["tensor", "channel", "group"]
ActivationsPer = Literal["tensor", "token", "none"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The grid of every weight.

    Raises:
        UserError: If a field has no such value, or two of them contradict each other.
    """

    bits: int = 8
    """2 to 8; a code is stored in a byte whatever its bits."""
    per: WeightsPer = "channel"
    """What has a scale of its own."""
    group_size: int | None = None
    """How many consecutive inputs of a channel share a scale, with ``per="group"``."""
    symmetric: bool = True
    """Whether zero is the middle of the grid; ``False`` spends the codes on the range."""

    def __post_init__(self) -> None:
        where = "quantization.weights"
        _require_bits(where, self.bits)
        _require_one_of(f"{where}.per", self.per, get_args(WeightsPer))
        if self.per == "group" and (self.group_size is None or self.group_size < 1):
            raise UserError(
                f"{where}.per=group with group_size={self.group_size}: write how many inputs share"
                f" a scale, as in {where}.group_size=32"
            )
        if self.per != "group" and self.group_size is not None:
            raise UserError(
                f"{where}.group_size={self.group_size} with per={self.per}: write {where}.per=group"
            )

    @property
    def scheme(self) -> Scheme:
        """The grid."""
        format = IntegerFormat(f"int{self.bits}", bits=self.bits, signed=True)
        return Scheme(format, self.symmetric, self.per, self.group_size)


@dataclass(frozen=True, kw_only=True)
class Activations:
    """The grid of every layer's input.

    Raises:
        UserError: If a field has no such value.
    """

    bits: int = 8
    """2 to 8."""
    per: ActivationsPer = "tensor"
    """``tensor``; ``token``, whose ranges are taken as they come; ``none``, inputs stay float."""
    symmetric: bool = False
    """Whether zero is the middle of the grid; ``False`` spends the codes on the range."""

    def __post_init__(self) -> None:
        _require_bits("quantization.activations", self.bits)
        _require_one_of("quantization.activations.per", self.per, get_args(ActivationsPer))

    @property
    def scheme(self) -> Scheme | None:
        """The grid, if inputs are rounded."""
        if self.per == "none":
            return None
        format = IntegerFormat(f"uint{self.bits}", bits=self.bits, signed=False)
        return Scheme(format, self.symmetric, self.per)


def why_no_kernel(weight: Scheme, input: Scheme) -> str | None:
    """Why PyTorch has no int8 kernel for a layer with these grids; ``None`` if it has one.

    Measured on torch 2.13 (``tests/quantization/test_choice.py``). Inductor matches more than its
    kernels compute: it forgets a weight's zero point, and the limits of a narrower input.
    """
    bits = min(weight.format.bits, input.format.bits)
    if bits < 8:
        return f"there is no kernel for {bits} bits: they are simulated in float"
    if not weight.symmetric:
        return "int8 kernels leave out the zero point of a weight"
    if weight.per == "group":
        return "int8 kernels take one scale an output channel, not one a group"
    if input.per == "token":
        return "int8 kernels take one scale for the whole input, not one a token"
    return None


def _require_bits(where: str, bits: int) -> None:
    if not 2 <= bits <= 8:
        raise UserError(f"{where}.bits={bits}: write 2 to 8")


def _require_one_of(where: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{where}={value}: write one of {', '.join(choices)}")
