"""A range that follows the batches."""

import torch
from torch import Tensor

from bitladder.errors import UserError
from bitladder.quantization.observers.base import Observer
from bitladder.quantization.scheme import Scheme


class MovingAverageObserver(Observer):
    """Exponential moving average of every batch's minimum and maximum.

    The range follows a network that is still training, and one odd batch cannot stretch it: the
    usual choice under quantization-aware training (Jacob et al., CVPR 2018, section 3.1).

    Args:
        scheme: The grid that the range is for.
        averaging_constant: The weight of the newest batch, in (0, 1]; 1 keeps only the newest.

    Raises:
        UserError: If ``averaging_constant`` is outside (0, 1].
    """

    def __init__(self, scheme: Scheme, averaging_constant: float = 0.01) -> None:
        super().__init__(scheme)
        if not 0.0 < averaging_constant <= 1.0:
            raise UserError(f"averaging_constant must be in (0, 1], not {averaging_constant}")
        self.averaging_constant = averaging_constant
        self.unseen()

    def observe(self, x: Tensor) -> None:
        """Move the range towards that of ``x``; the first batch sets it."""
        minimum, maximum = self.extremes(x)
        if self.saw_data:
            minimum = self.minimum + self.averaging_constant * (minimum - self.minimum)
            maximum = self.maximum + self.averaging_constant * (maximum - self.maximum)
        self.minimum, self.maximum = minimum, maximum

    def essence(self, x: Tensor) -> Tensor:
        """Minimum and maximum of ``x``."""
        return torch.stack(self.extremes(x))

    def range(self) -> tuple[Tensor, Tensor]:
        """The averaged minimum and maximum."""
        return self.minimum, self.maximum
