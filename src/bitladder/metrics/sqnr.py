"""How much of a signal survives its quantization."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class SQNR(Metric):
    """Signal-to-quantization-noise ratio in dB: ``10 log10(sum(ref^2) / sum((ref - x)^2))``.

    Infinite where nothing was lost. Six dB are about one bit (Widrow and Kollár, "Quantization
    Noise", 2008). The sums are kept in fp64 and run over everything since the last ``reset``, so
    batches of different sizes weigh by their energy.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    signal: Tensor
    noise: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("signal", default=zero, dist_reduce_fx="sum")
        self.add_state("noise", default=zero.clone(), dist_reduce_fx="sum")

    def update(self, x: Tensor, reference: Tensor) -> None:
        """Add a batch.

        Args:
            x: What came out of the quantized computation, any floating dtype.
            reference: What should have come out, of the same shape.

        Raises:
            ValueError: If the shapes differ.
        """
        if x.shape != reference.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, reference {tuple(reference.shape)}")
        reference = reference.double()
        self.signal += reference.square().sum()
        self.noise += (reference - x.double()).square().sum()

    def compute(self) -> Tensor:
        """The ratio in dB, an fp64 scalar; infinity if all pairs were equal, even if all zero."""
        ratio = 10 * torch.log10(self.signal / self.noise)
        return torch.where(self.noise == 0, torch.inf, ratio)
