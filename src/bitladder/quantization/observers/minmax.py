"""The widest range seen."""

import torch
from torch import Tensor

from bitladder.quantization.observers.base import Observer
from bitladder.quantization.scheme import Scheme


class MinMaxObserver(Observer):
    """Covers everything that was ever seen: nothing is clipped, one outlier coarsens the grid.

    Right for weights, and for activations without outliers.
    """

    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        self.unseen()

    def observe(self, x: Tensor) -> None:
        """Widen the range to cover ``x``."""
        minimum, maximum = self.extremes(x)
        self.minimum = torch.minimum(self.minimum, minimum)
        self.maximum = torch.maximum(self.maximum, maximum)

    def essence(self, x: Tensor) -> Tensor:
        """Minimum and maximum of ``x``."""
        return torch.stack(self.extremes(x))

    def range(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value seen."""
        return self.minimum, self.maximum
