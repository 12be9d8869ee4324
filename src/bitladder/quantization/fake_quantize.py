"""Rounding to the integer grid and back, in float, with a straight-through gradient."""

import torch
from torch import Tensor

from bitladder.errors import RunError
from bitladder.quantization.observers.base import Observer
from bitladder.quantization.scheme import Scheme
from bitladder.quantization.state import Float32State


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, scheme: Scheme) -> Tensor:
    """Round ``x`` to the grid and back; the arithmetic is fp32 whatever the dtype of ``x``.

    The gradient passes straight through inside the grid and is zero where ``x`` was clipped
    (Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013).

    Args:
        x: Floating tensor of any shape.
        scale: fp32, shape ``[]`` or one for each of the scheme's rows of ``x``.
        zero_point: int32, of the same shape.
        scheme: The grid.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    low, high, axis = scheme.format.minimum, scheme.format.maximum, scheme.channel_axis
    rows = scheme.rows(x.float())
    if axis is None:
        y = torch.fake_quantize_per_tensor_affine(rows, scale, zero_point, low, high)
    else:
        y = torch.fake_quantize_per_channel_affine(rows, scale, zero_point, axis, low, high)
    return y.reshape(x.shape).to(x.dtype)


class FakeQuantize(Float32State):
    """Observes a tensor, and rounds it to the grid that the observer proposes.

    Args:
        scheme: The grid.
        observer: Proposes the range.
        memoryless: Whether the range follows the newest tensor alone. Weights are always all
            there, so what they were some steps ago must not widen their grid.

    Attributes:
        observing: Whether tensors that pass *in training mode* move the range.
        calibrating: Whether every tensor that passes moves the range; the first one only, if
            ``memoryless``.
        quantizing: Whether tensors are rounded to the grid.
    """

    def __init__(self, scheme: Scheme, observer: Observer, *, memoryless: bool = False) -> None:
        super().__init__()
        self.scheme = scheme
        self.observer = observer
        self.memoryless = memoryless
        self.observing = False
        self.calibrating = False
        self.quantizing = False
        self.scale: Tensor
        self.zero_point: Tensor
        self.register_buffer("scale", torch.tensor(1.0), persistent=False)
        zero = torch.tensor(0, dtype=torch.int32)
        self.register_buffer("zero_point", zero, persistent=False)

    @property
    def active(self) -> bool:
        """Whether a tensor that passes now is looked at or changed."""
        return self.quantizing or self.calibrating or (self.observing and self.training)

    def forward(self, x: Tensor) -> Tensor:
        """``x``, rounded to the grid if ``quantizing``; same shape and dtype."""
        if self.calibrating or (self.observing and self.training):
            if self.memoryless:
                self.observer.unseen()
                # No weight changes during calibration: seeing it once is enough.
                self.calibrating = False
            # Of all the tensors of a calibration only the last need propose a grid.
            if self.observer(self.scheme.rows(x)) and not self.calibrating:
                self.settle()
        if not self.quantizing:
            return x
        return fake_quantize(x, self.scale, self.zero_point, self.scheme)

    def settle(self) -> None:
        """Take the grid that the observer proposes now; it must have seen data."""
        self.scale, self.zero_point = self.scheme.qparams(*self.observer.range())

    def require_range(self, name: str) -> None:
        """Refuse to go on without a range.

        Raises:
            RunError: If the observer never saw data, or saw NaN or infinity.
        """
        minimum, maximum = self.observer.range()
        finite = bool(torch.isfinite(minimum).all() and torch.isfinite(maximum).all())
        if not (finite and self.observer.saw_data):
            what = "saw NaN or infinity" if self.observer.saw_data else "never saw data"
            raise RunError(f"the observer of {name} {what}: there is no range to quantize it with")


class DynamicQuantize(Float32State):
    """Rounds every tensor to the grid of its own minimum and maximum, as it comes.

    Args:
        scheme: The grid; one range for the whole tensor, or one a token.
    """

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme
        self.quantizing = False

    @property
    def active(self) -> bool:
        """Whether a tensor that passes now is changed."""
        return self.quantizing

    def forward(self, x: Tensor) -> Tensor:
        """``x``, rounded to its own grid if ``quantizing``; same shape and dtype."""
        if not self.quantizing or not x.numel():
            return x
        extremes = self.scheme.extremes(self.scheme.rows(x.detach().float()))
        scale, zero_point = self.scheme.qparams(*extremes)
        return fake_quantize(x, scale, zero_point, self.scheme)


class Unquantized(Float32State):
    """Rounds nothing: the input of a layer that takes indices, or that only stores codes."""

    def __init__(self) -> None:
        super().__init__()
        self.quantizing = False

    @property
    def active(self) -> bool:
        """Never: nothing is changed."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x
