"""What every observer promises."""

from abc import abstractmethod

import torch
from torch import Tensor

from bitladder.quantization.ranks import gather, rank_and_size
from bitladder.quantization.scheme import Scheme
from bitladder.quantization.state import Float32State


class Observer(Float32State):
    """Watches tensors go by and proposes the range that the integer grid should cover.

    A subclass implements :meth:`observe` and :meth:`range`, and keeps what it learned in
    **non-persistent buffers**: that is what a checkpoint saves and a resumed run restores.

    Args:
        scheme: The grid that the range is for. With a ``channel_axis`` the observer keeps one
            range a row of :meth:`Scheme.rows`.

    Attributes:
        joined: Whether to observe what all ranks of the process group see, as if it were one
            tensor: then all of them keep the same range.
    """

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme
        self.joined = False

    @abstractmethod
    def observe(self, x: Tensor) -> None:
        """Take in one tensor (fp32, any shape, detached)."""

    @abstractmethod
    def range(self) -> tuple[Tensor, Tensor]:
        """The proposed minimum and maximum, fp32, of shape ``[]`` or ``[channels]``.

        Before the first :meth:`observe` the minimum is above the maximum.
        """

    def essence(self, x: Tensor) -> Tensor:
        """What of ``x`` is worth sending to the other ranks, shape ``[n]``; by default all of it.

        Observing the essences of some tensors, joined, must do what observing the tensors does. An
        observer that looks at the extremes alone needs no more than those.
        """
        return x.flatten()

    def forward(self, x: Tensor) -> bool:
        """Observe ``x`` without touching its autograd graph; an empty tensor says nothing.

        Where ranks are joined all of them must call this equally often, as with SyncBatchNorm.

        Returns:
            Whether anything was there to observe, on any of the ranks.
        """
        with torch.no_grad():
            x = x.detach().float()
            if self.joined and rank_and_size()[1] > 1:
                x = torch.cat(gather(self.essence(x) if x.numel() else x.flatten()))
            if x.numel():
                self.observe(x)
        return x.numel() > 0

    @property
    def saw_data(self) -> bool:
        """Whether anything was observed."""
        minimum, maximum = self.range()
        return not bool((minimum > maximum).any())  # NaN was data too

    def extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Minimum and maximum of ``x``: of all of it, or per channel if the scheme says so."""
        return self.scheme.extremes(x)

    def unseen(self) -> None:
        """Make the buffers ``minimum`` and ``maximum`` the empty range: nothing was observed."""
        self.minimum: Tensor
        self.maximum: Tensor
        self.register_buffer("minimum", torch.tensor(torch.inf), persistent=False)
        self.register_buffer("maximum", torch.tensor(-torch.inf), persistent=False)
