"""What a method of quantization asks of every layer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from bitladder.errors import UserError
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize
from bitladder.quantization.layers import QuantizedLayer
from bitladder.quantization.observers import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    Observer,
)
from bitladder.quantization.scheme import ACTIVATION, WEIGHT, Scheme

Method = Literal["dynamic", "ptq", "qat"]
MakeObserver = Callable[[Scheme], Observer]

DEFAULT_OBSERVERS: dict[Method, MakeObserver] = {
    "dynamic": MinMaxObserver,
    "ptq": HistogramObserver,
    "qat": MovingAverageObserver,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to quantize.

    Raises:
        UserError: If ``method`` is none of ``dynamic``, ``ptq`` and ``qat``.
    """

    method: Method
    """``dynamic`` (input ranges as they come), ``ptq`` (calibrated) or ``qat`` (trained)."""
    observer: MakeObserver | None = None
    """Makes the observer of an input from its scheme; the method's default if ``None``."""
    weight_observer: MakeObserver = field(default=MinMaxObserver)
    """Makes the observer of a weight from its scheme."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            choices = ", ".join(get_args(Method))
            raise UserError(f"quantization method {self.method!r} is not one of {choices}")

    def why_not(self, twin: type[QuantizedLayer]) -> str | None:
        """The reason why layers of this type stay float under this recipe, if they do."""
        if self.method == "dynamic" and not twin.takes_dynamic_input:
            return "no int8 kernel takes a convolution whose input range comes at run time"
        return None

    def input_quantizer(self) -> FakeQuantize | DynamicQuantize:
        """A fresh quantizer for a layer's input."""
        if self.method == "dynamic":
            return DynamicQuantize(ACTIVATION)
        observer = (self.observer or DEFAULT_OBSERVERS[self.method])(ACTIVATION)
        return FakeQuantize(ACTIVATION, observer)

    def weight_quantizer(self) -> FakeQuantize:
        """A fresh quantizer for a layer's weight."""
        return FakeQuantize(WEIGHT, self.weight_observer(WEIGHT), memoryless=True)
