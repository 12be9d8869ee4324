"""The range that keeps the distribution of the values most alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bitladder.quantization.observers.binned import BinnedObserver, within

CANDIDATES = 128


class EntropyObserver(BinnedObserver):
    """Clips where the integer codes tell most about the distribution of the values.

    Migacz, "8-bit Inference with TensorRT" (GTC 2017): the magnitude to clip at is that with the
    least Kullback-Leibler divergence between the distribution, its outliers moved to the ends, and
    what the codes leave of it. Less than one bin a code says nothing, so at the least
    ``codes / bins`` of the largest magnitude is kept: an eighth for 8 bits and 2048 bins. Zeros
    count no more than their neighbours do.

    Args:
        scheme: The grid that the range is for; one range for the whole tensor only.
        bins: Number of bins, at least 16.

    Raises:
        UserError: If the scheme is per channel, or there are too few bins.
    """

    def clip(self, least: Tensor, greatest: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The ends with the least divergence, zero inside; shapes as in :class:`BinnedObserver`."""
        format = self.scheme.format
        codes = format.maximum - format.minimum + 1
        narrowest = min(1.0, codes / self.bins)
        # Ascending: of equal divergences the first counts, that of the finer grid.
        ratios = torch.linspace(narrowest, 1.0, CANDIDATES, device=least.device)
        minimum, maximum = least.min(), greatest.max()
        thresholds = torch.maximum(-minimum, maximum) * ratios
        minima, maxima = within(thresholds, minimum, maximum)
        counts = _without_zeros(least, greatest, counts)
        best = self._divergence(minima, maxima, (least + greatest) / 2, counts).argmin()
        return minima[best], maxima[best]

    def _divergence(self, minima: Tensor, maxima: Tensor, values: Tensor, counts: Tensor) -> Tensor:
        """KL divergence of ranges ``[ranges]`` over ``[bins]``, fp64; inf if no bin is inside."""
        format = self.scheme.format
        scale, zero_point = (part[:, None] for part in self.scheme.qparams(minima, maxima))
        codes = (torch.round(values / scale) + zero_point).clamp(format.minimum, format.maximum)
        codes = codes.long() - format.minimum
        inside = (values >= minima[:, None]) & (values <= maxima[:, None])
        kept = counts * inside
        # What is outside belongs to the first or the last bin inside.
        reference = kept.clone()
        first = inside.long().argmax(1, keepdim=True)
        last = values.numel() - 1 - inside.long().flip(1).argmax(1, keepdim=True)
        below = (counts * (values < minima[:, None])).sum(1, keepdim=True)
        above = (counts * (values > maxima[:, None])).sum(1, keepdim=True)
        reference = reference.scatter_add(1, first, below).scatter_add(1, last, above).double()
        # A code spreads its values evenly over its bins; those that were empty stay so.
        grid = counts.new_zeros(len(minima), format.maximum - format.minimum + 1)
        total = grid.scatter_add(1, codes, kept).gather(1, codes).double()
        shared_by = grid.scatter_add(1, codes, inside.long()).gather(1, codes).clamp(min=1)
        spread = torch.where(inside, total / shared_by, 0.0)
        p = reference / reference.sum(1, keepdim=True)
        q = spread / spread.sum(1, keepdim=True)
        divergence = torch.where(inside, p * (p / q).log(), 0.0).sum(1)
        return torch.where(inside.any(1), divergence, torch.inf)


def _without_zeros(least: Tensor, greatest: Tensor, counts: Tensor) -> Tensor:
    """``counts``, that of zero's bin no greater than its greater neighbour's.

    Every grid holds zero exactly. The many zeros behind a ReLU would hide all the rest: their code
    spreads them over its other bins, which only the narrowest range avoids.
    """
    below, above = F.pad(counts, (1, 0))[:-1], F.pad(counts, (0, 1))[1:]
    zero = (least <= 0) & (greatest >= 0)
    return torch.where(zero, torch.minimum(counts, torch.maximum(below, above)), counts)
