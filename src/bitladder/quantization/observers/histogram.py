"""The range that loses least in the mean square, each end on its own."""

import torch
from torch import Tensor

from bitladder.quantization.observers.binned import BinnedObserver, squared_error

CANDIDATES = 128


class HistogramObserver(BinnedObserver):
    """Counts values in a histogram, then clips where the expected squared error is smallest.

    A wide range rounds every value coarsely; a narrow one clips the tails. The histogram holds
    what is needed to weigh the two (Sung et al., "Resiliency of Deep Neural Networks under
    Quantization", 2015): each end of the range is moved inwards in turn to where the L2 error over
    all counted values is least. The usual choice for post-training quantization of activations.

    Args:
        scheme: The grid that the range is for; one range for the whole tensor only.
        bins: Number of bins, at least 16.

    Raises:
        UserError: If the scheme is per channel, or there are too few bins.
    """

    def clip(self, least: Tensor, greatest: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The ends with the least squared error; shapes as in :class:`BinnedObserver`."""
        values = (least + greatest) / 2
        minimum, maximum = self.minimum, self.maximum
        shrink = torch.linspace(1.0, 1.0 / CANDIDATES, CANDIDATES, device=values.device)
        for _ in range(2):
            if maximum > 0:
                maxima = self.maximum * shrink
                minima = minimum.expand(CANDIDATES)
                maximum = maxima[
                    squared_error(self.scheme, minima, maxima, values, counts).argmin()
                ]
            if minimum < 0:
                minima = self.minimum * shrink
                maxima = maximum.expand(CANDIDATES)
                minimum = minima[
                    squared_error(self.scheme, minima, maxima, values, counts).argmin()
                ]
        return minimum, maximum
