"""What the observers that weigh a distribution share: a histogram that loses nothing."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from bitladder.errors import UserError
from bitladder.quantization.observers.base import Observer
from bitladder.quantization.scheme import Scheme


class BinnedObserver(Observer):
    """Counts values in equal bins and leaves the range to :meth:`clip`.

    A bin knows how many values fell into it (int64: exact, and the same on every device), the
    least and the greatest of them. When a later tensor is wider, the bins are widened and old ones
    move as a whole, so no value is ever lost and a bin never reports one that was not seen.

    Per channel there is no histogram. That is for weights, which are always all there: the range is
    found on the tensor itself, exactly; of several tensors it covers the ranges of all.

    Args:
        scheme: The grid that the range is for.
        bins: Number of bins, at least 16.

    Raises:
        UserError: If the scheme is per channel and the observer cannot be, or there are too few
            bins.
    """

    per_channel: ClassVar[bool] = False
    """Whether the observer can keep one range a channel."""

    def __init__(self, scheme: Scheme, bins: int = 2048) -> None:
        super().__init__(scheme)
        if scheme.channel_axis is not None and not self.per_channel:
            raise UserError(
                f"{type(self).__name__} keeps one range for a tensor, not one a channel: for"
                " weights write MinMaxObserver, MSEObserver or PercentileObserver"
            )
        if bins < 16:
            raise UserError(f"bins must be at least 16, not {bins}")
        self.bins = bins
        self.counts: Tensor
        self.least: Tensor
        self.greatest: Tensor
        self.unseen()

    @abstractmethod
    def clip(self, least: Tensor, greatest: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The range for a distribution of at least two values.

        Args:
            least: The least value of each bin, ascending, fp32, shape ``[..., bins]``.
            greatest: The greatest value of each bin, of the same shape.
            counts: The number of values of each bin, int64, of the same shape, none zero.

        Returns:
            Minimum and maximum, fp32, shape ``[...]``.
        """

    def unseen(self) -> None:
        """Forget everything."""
        super().unseen()
        bins = self.bins if self.scheme.channel_axis is None else 0
        empty = {
            "counts": torch.zeros(bins, dtype=torch.int64),
            "least": torch.full((bins,), torch.inf),
            "greatest": torch.full((bins,), -torch.inf),
        }
        for name, buffer in empty.items():
            self.register_buffer(name, buffer, persistent=False)

    def observe(self, x: Tensor) -> None:
        """Add the values of ``x``, widening the bins where needed."""
        minimum, maximum = self.extremes(x)
        axis = self.scheme.channel_axis
        if axis is not None and _finite(minimum, maximum):
            rows = x.movedim(axis, 0).flatten(1).sort(dim=1).values
            minimum, maximum = self.clip(rows, rows, torch.ones_like(rows, dtype=torch.int64))
        self.minimum = torch.minimum(self.minimum, minimum)
        self.maximum = torch.maximum(self.maximum, maximum)
        # NaN and infinity stay in the range, which is then refused: there is nothing to count.
        if axis is None and _finite(self.minimum, self.maximum):
            self._count(x.flatten())

    def range(self) -> tuple[Tensor, Tensor]:
        """What :meth:`clip` proposes; everything seen where that is a point or not finite."""
        point = not bool((self.minimum < self.maximum).any())
        if self.scheme.channel_axis is not None or point or not _finite(self.minimum, self.maximum):
            return self.minimum, self.maximum
        filled = self.counts > 0
        return self.clip(self.least[filled], self.greatest[filled], self.counts[filled])

    def _count(self, values: Tensor) -> None:
        """Sort old bins and new values into the bins of ``[minimum, maximum]``.

        A bin goes where its least value goes: back to its place, if the range is as it was.
        """
        old = (buffer.to(values.device) for buffer in (self.counts, self.least, self.greatest))
        counts, least, greatest = old
        filled = counts > 0
        counts = torch.cat([counts[filled], torch.ones_like(values, dtype=torch.int64)])
        least = torch.cat([least[filled], values])
        greatest = torch.cat([greatest[filled], values])
        width = (self.maximum - self.minimum) / self.bins
        width = width.clamp(min=torch.finfo(torch.float32).tiny)
        index = ((least - self.minimum) / width).long().clamp(0, self.bins - 1)
        empty = values.new_full((self.bins,), torch.inf)
        self.counts = counts.new_zeros(self.bins).scatter_add(0, index, counts)
        self.least = empty.scatter_reduce(0, index, least, "amin")
        self.greatest = (-empty).scatter_reduce(0, index, greatest, "amax")


def within(threshold: Tensor, minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Tensor]:
    """The part of ``[minimum, maximum]`` where no magnitude is above ``threshold``, zero inside."""
    low, high = minimum.clamp(max=0.0), maximum.clamp(min=0.0)
    return torch.maximum(low, -threshold), torch.minimum(high, threshold)


def squared_error(
    scheme: Scheme, minimum: Tensor, maximum: Tensor, values: Tensor, counts: Tensor
) -> Tensor:
    """What rounding to the grid of a range costs.

    Args:
        scheme: The grid.
        minimum: fp32, shape ``[...]``.
        maximum: Of the same shape.
        values: fp32, shape ``[..., values]``.
        counts: How often each value was seen, of the shape of ``values``.

    Returns:
        The sum of squared errors, fp64, shape ``[...]``.
    """
    format = scheme.format
    scale, zero_point = (part[..., None] for part in scheme.qparams(minimum, maximum))
    codes = (torch.round(values / scale) + zero_point).clamp(format.minimum, format.maximum)
    error = ((codes - zero_point) * scale - values).double().square()
    return (error * counts).sum(-1)


def _finite(minimum: Tensor, maximum: Tensor) -> bool:
    return bool(torch.isfinite(minimum).all() and torch.isfinite(maximum).all())
