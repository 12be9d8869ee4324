"""The range that loses least in the mean square, clipped at one magnitude."""

import torch
from torch import Tensor

from bitladder.quantization.observers.binned import BinnedObserver, squared_error, within
from bitladder.quantization.scheme import Scheme

CANDIDATES = 100
LEAST_GAIN = 0.03
"""A histogram blurs the error by less than this share, 0.13 dB: a smaller gain is none."""


class MSEObserver(BinnedObserver):
    """Clips at 1.00, 0.99, ... 0.01 of the largest magnitude, where the squared error is least.

    Choukroun et al., "Low-bit Quantization of Neural Networks for Efficient Inference"
    (arXiv:1902.06822), search a tensor's scale so; Banner et al., "Post training 4-bit quantization
    of convolutional networks for rapid-deployment" (arXiv:1810.05723), find the same clipping in
    closed form for the Gauss and Laplace distributions. One threshold for both ends makes the
    search cheap enough for every channel of a weight, and its error is never above that of the
    widest range.

    Args:
        scheme: The grid that the range is for; per tensor or per channel.
        bins: Number of bins of the histogram of a whole tensor, at least 16. Where all values lie
            in few codes, as behind an outlier, few bins blur what rounding to these costs.

    Raises:
        UserError: If there are too few bins.
    """

    per_channel = True

    def __init__(self, scheme: Scheme, bins: int = 8192) -> None:
        super().__init__(scheme, bins)

    def clip(self, least: Tensor, greatest: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The clipped range, zero inside; shapes as in :class:`BinnedObserver`."""
        values = (least + greatest) / 2
        minimum, maximum = least.amin(-1), greatest.amax(-1)
        largest = torch.maximum(-minimum, maximum)

        def loss(threshold: Tensor) -> Tensor:
            ends = within(threshold, minimum, maximum)
            return squared_error(self.scheme, *ends, values, counts)

        best, smallest = largest, loss(largest) * (1 - LEAST_GAIN)
        for step in range(CANDIDATES - 1, 0, -1):
            threshold = largest * (step / CANDIDATES)
            error = loss(threshold)
            best = torch.where(error < smallest, threshold, best)
            smallest = torch.minimum(error, smallest)
        return within(best, minimum, maximum)
