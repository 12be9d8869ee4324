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
        UserError: If ``method`` is none of ``dynamic``, ``ptq`` and ``qat``, or an observer refuses
            its scheme or its arguments.
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
        # What an observer refuses is refused now, not when a model is prepared.
        self.input_quantizer()
        self.weight_quantizer()

    def why_not(self, twin: type[QuantizedLayer]) -> str | None:
        """The reason why layers of this type stay float under this recipe, if they do."""
        if self.method == "dynamic" and not twin.takes_dynamic_input:
            return "no int8 kernel takes a convolution whose input range comes at run time"
        return None

    def input_quantizer(self) -> FakeQuantize | DynamicQuantize:
        """A fresh quantizer for a layer's input."""
        if self.method == "dynamic":
            return DynamicQuantize(ACTIVATION)
        make = self.observer or DEFAULT_OBSERVERS[self.method]
        return FakeQuantize(ACTIVATION, _observer("observer", make, ACTIVATION))

    def weight_quantizer(self) -> FakeQuantize:
        """A fresh quantizer for a layer's weight."""
        observer = _observer("weight_observer", self.weight_observer, WEIGHT)
        return FakeQuantize(WEIGHT, observer, memoryless=True)


def _observer(key: str, make: MakeObserver, scheme: Scheme) -> Observer:
    """An observer; what it refuses is said with the argument that asked for it."""
    try:
        return make(scheme)
    except (UserError, ValueError) as error:
        raise UserError(f"quantization.{key}: {error}") from error
