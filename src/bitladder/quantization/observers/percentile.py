"""The range that covers nearly everything."""

import torch
from torch import Tensor

from bitladder.errors import UserError
from bitladder.quantization.observers.binned import BinnedObserver
from bitladder.quantization.scheme import Scheme


class PercentileObserver(BinnedObserver):
    """Leaves a fixed share of the values outside each end, however far out they are.

    Wu et al., "Integer Quantization for Deep Learning Inference: Principles and Empirical
    Evaluation" (arXiv:2004.09602), section 3.3, calibrate activations with 99.9, 99.99 and 99.999%.
    The ends are values that were seen: few outliers cost nothing, be they as large as they may.

    Args:
        scheme: The grid that the range is for; per tensor or per channel.
        percentile: At most ``100 - percentile`` percent of the values are clipped at each end, in
            (50, 100]; 100 is the widest range.
        bins: Number of bins of the histogram of a whole tensor, at least 16.

    Raises:
        UserError: If ``percentile`` is outside (50, 100], or there are too few bins.
    """

    per_channel = True

    def __init__(self, scheme: Scheme, percentile: float = 99.99, bins: int = 2048) -> None:
        super().__init__(scheme, bins)
        if not 50.0 < percentile <= 100.0:
            raise UserError(f"percentile must be in (50, 100], not {percentile}")
        self.percentile = percentile

    def clip(self, least: Tensor, greatest: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The values at both percentiles; shapes as in :class:`BinnedObserver`."""
        maximum = self._reaches(greatest, counts)
        minimum = -self._reaches(-least.flip(-1), counts.flip(-1))
        return minimum, maximum

    def _reaches(self, greatest: Tensor, counts: Tensor) -> Tensor:
        """The greatest value of the first bins that together hold the percentile."""
        running = counts.cumsum(-1)
        wanted = running[..., -1:] * (self.percentile / 100)
        first = (running.double() < wanted).sum(-1, keepdim=True)
        return torch.cummax(greatest, -1).values.gather(-1, first).squeeze(-1)
