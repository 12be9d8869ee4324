"""What a method of quantization asks of every layer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import nn

from bitladder.errors import UserError
from bitladder.quantization.choice import Activations, Weights
from bitladder.quantization.fake_quantize import DynamicQuantize, FakeQuantize, Unquantized
from bitladder.quantization.layers import TWINS
from bitladder.quantization.observers import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    Observer,
)
from bitladder.quantization.scheme import Scheme

Method = Literal["dynamic", "ptq", "qat"]
METHODS: tuple[Method, ...] = get_args(Method)
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
        UserError: If ``method`` is none of ``dynamic``, ``ptq`` and ``qat``, does not fit the grid
            of inputs, a grid is none, or an observer refuses its scheme or its arguments.
    """

    method: Method
    """``dynamic`` (input ranges as they come), ``ptq`` (calibrated) or ``qat`` (trained)."""
    observer: MakeObserver | None = None
    """Makes the observer of an input from its scheme; the method's default if ``None``."""
    weight_observer: MakeObserver = field(default=MinMaxObserver)
    """Makes the observer of a weight from its scheme."""
    weights: Weights = field(default_factory=Weights)
    """The grid of weights."""
    activations: Activations = field(default_factory=Activations)
    """The grid of inputs."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            choices = ", ".join(METHODS)
            raise UserError(f"quantization method {self.method!r} is not one of {choices}")
        _check_kind("weights", self.weights, Weights)
        _check_kind("activations", self.activations, Activations)
        if self.method == "ptq" and self.activations.per == "token":
            raise UserError(
                "quantization.activations.per=token takes ranges as they come, there is nothing to"
                " calibrate: write quantization=dynamic"
            )
        if self.method == "dynamic" and self.activations.per == "none":
            raise UserError(
                "quantization.activations.per=none leaves no range that could come at run time:"
                " write quantization=ptq"
            )
        # What an observer refuses is refused now, not when a model is prepared.
        self.input_quantizer()
        self.weight_quantizer()

    @property
    def dynamic(self) -> bool:
        """Whether the ranges of inputs are taken as they come, and no observer learns them."""
        return self.method == "dynamic" or self.activations.per == "token"

    def why_not(self, layer: nn.Module) -> str | None:
        """The reason why a layer that has a twin stays float under this recipe, if it does."""
        twin = TWINS[type(layer)]
        if self.activations.per == "token" and not twin.has_tokens:
            return "its input has no tokens that could have a range each"
        size = self.weights.group_size
        if size is None:
            return None
        inputs = twin.inputs(layer)
        if inputs is None:
            return "its matrices are of different widths: no group fits them all"
        return f"a group of {size} does not divide its {inputs} inputs" if inputs % size else None

    def input_quantizer(self) -> FakeQuantize | DynamicQuantize | Unquantized:
        """A fresh quantizer for a layer's input."""
        scheme = self.activations.scheme
        if scheme is None:
            return Unquantized()
        if self.dynamic:
            return DynamicQuantize(scheme)
        make = self.observer or DEFAULT_OBSERVERS[self.method]
        return FakeQuantize(scheme, _observer("observer", make, scheme))

    def weight_quantizer(self) -> FakeQuantize:
        """A fresh quantizer for a layer's weight."""
        scheme = self.weights.scheme
        observer = _observer("weight_observer", self.weight_observer, scheme)
        return FakeQuantize(scheme, observer, memoryless=True)


def _check_kind(key: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise UserError(
            f"quantization.{key} is a {type(value).__name__}: write"
            f" quantization.{key}._target_=bitladder.quantization.{kind.__name__} and its keys"
        )


def _observer(key: str, make: MakeObserver, scheme: Scheme) -> Observer:
    """An observer; what it refuses is said with the argument that asked for it."""
    try:
        observer = make(scheme)
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"quantization.{key}: {error}") from error
    if not isinstance(observer, Observer):
        raise UserError(
            f"quantization.{key} makes a {type(observer).__name__}, which is no Observer"
        )
    return observer
