"""The range that loses least in the mean square."""

import torch
from torch import Tensor

from bitladder.quantization.observers.base import Observer
from bitladder.quantization.scheme import Scheme

CANDIDATES = 128


class HistogramObserver(Observer):
    """Counts values in a histogram, then clips where the expected squared error is smallest.

    A wide range rounds every value coarsely; a narrow one clips the tails. The histogram holds
    what is needed to weigh the two (Sung et al., "Resiliency of Deep Neural Networks under
    Quantization", 2015): each end of the range is moved inwards in turn to where the L2 error over
    all counted values is least. The usual choice for post-training quantization of activations.

    Args:
        scheme: The grid that the range is for; one range for the whole tensor only.
        bins: Number of bins, at least 16.

    Raises:
        ValueError: If the scheme is per channel, or there are too few bins.
    """

    def __init__(self, scheme: Scheme, bins: int = 2048) -> None:
        super().__init__(scheme)
        if scheme.channel_axis is not None:
            raise ValueError("HistogramObserver keeps one range for a tensor, not one a channel")
        if bins < 16:
            raise ValueError(f"bins must be at least 16, not {bins}")
        self.bins = bins
        self.unseen()
        self.counts: Tensor
        self.register_buffer("counts", torch.zeros(bins), persistent=False)

    def observe(self, x: Tensor) -> None:
        """Add the values of ``x`` to the counts, widening the histogram where needed."""
        minimum, maximum = self.extremes(x)
        minimum = torch.minimum(minimum, self.minimum)
        maximum = torch.maximum(maximum, self.maximum)
        if self.saw_data and (minimum < self.minimum or maximum > self.maximum):
            self.counts = _histogram(self._centers(), minimum, maximum, self.bins, self.counts)
        self.minimum, self.maximum = minimum, maximum
        self.counts = self.counts + _histogram(x.flatten(), minimum, maximum, self.bins)

    def range(self) -> tuple[Tensor, Tensor]:
        """The clipped minimum and maximum; all of the range when it is a single point."""
        if not bool(self.minimum < self.maximum):
            return self.minimum, self.maximum
        minimum, maximum = self.minimum, self.maximum
        shrink = torch.linspace(1.0, 1.0 / CANDIDATES, CANDIDATES, device=self.counts.device)
        for _ in range(2):
            if maximum > 0:
                maximum = self._best(minimum.expand(CANDIDATES), self.maximum * shrink)[1]
            if minimum < 0:
                minimum = self._best(self.minimum * shrink, maximum.expand(CANDIDATES))[0]
        return minimum, maximum

    def _best(self, minima: Tensor, maxima: Tensor) -> tuple[Tensor, Tensor]:
        """The candidate range with the least squared error over the counted values."""
        format = self.scheme.format
        scale, zero_point = self.scheme.qparams(minima, maxima)
        scale, zero_point = scale[:, None], zero_point[:, None]
        values = self._centers()
        codes = (torch.round(values / scale) + zero_point).clamp(format.minimum, format.maximum)
        error = ((codes - zero_point) * scale - values).square() @ self.counts
        best = error.argmin()
        return minima[best], maxima[best]

    def _centers(self) -> Tensor:
        width = (self.maximum - self.minimum) / self.bins
        steps = torch.arange(self.bins, device=self.counts.device) + 0.5
        return self.minimum + steps * width


def _histogram(
    values: Tensor, low: Tensor, high: Tensor, bins: int, weights: Tensor | None = None
) -> Tensor:
    """Counts of ``values`` in ``bins`` equal bins of ``[low, high]``, fp32, shape ``[bins]``."""
    width = ((high - low) / bins).clamp(min=torch.finfo(torch.float32).tiny)
    index = ((values - low) / width).long().clamp(0, bins - 1)
    ones = torch.ones_like(values) if weights is None else weights
    return torch.zeros(bins, device=values.device).scatter_add_(0, index, ones)
