"""Whether two models fail on the same samples, or on as many others."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from bitladder.error_sets import ErrorSets


class ErrorSetOverlap(Metric):
    """How much of what either of two classifiers gets wrong, both get wrong.

    With A and B the sets of wrongly predicted samples, and p and q their shares of all samples:

    - ``p``, ``q``: the error rates;
    - ``jaccard``: ``|A and B| / |A or B|`` (Jaccard, 1912), in [0, 1];
    - ``expected``: ``p q / (p + q - p q)``, what the ratio of the expected sizes is for independent
      errors at these rates;
    - ``highest``: ``min(p, q) / max(p, q)``, where the smaller set lies in the larger;
    - ``excess``: ``(jaccard - expected) / (highest - expected)``: 1 where they fail on the same
      samples as far as the rates allow, 0 where they fail as independent ones would, below 0 where
      they avoid each other's errors.

    What would divide by zero is NaN: all but the rates where neither errs, ``excess`` also where
    one errs never or always, which leaves no room between the two.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    samples: Tensor
    first: Tensor
    second: Tensor
    both: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("samples", "first", "second", "both"):
            zero = torch.zeros((), dtype=torch.int64)
            self.add_state(name, default=zero, dist_reduce_fx="sum")

    def update(self, a: Tensor, b: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            a: Logits ``[N, classes]`` or classes ``[N]`` of the first model.
            b: Of the second, likewise.
            labels: The right classes ``[N]``, integers.

        Raises:
            ValueError: If they are not about the same samples.
        """
        classes = [x.argmax(dim=1) if x.dim() == 2 else x for x in (a, b)]
        for x in classes:
            if x.shape != labels.shape:
                shapes = tuple(x.shape), tuple(labels.shape)
                raise ValueError(f"predictions have shape {shapes[0]}, labels {shapes[1]}")
        wrong_a, wrong_b = (x != labels for x in classes)
        self.samples += labels.numel()
        self.first += wrong_a.sum()
        self.second += wrong_b.sum()
        self.both += (wrong_a & wrong_b).sum()

    def compute(self) -> dict[str, Tensor]:
        """The figures above, fp64 scalars by name."""
        counts = (self.samples, self.first, self.second, self.both)
        sets = ErrorSets(*(int(count) for count in counts))
        numbers = {
            "p": sets.rate_a,
            "q": sets.rate_b,
            "jaccard": sets.jaccard,
            "expected": sets.expected,
            "highest": sets.highest,
            "excess": sets.excess,
        }
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.samples.device)
            for name, value in numbers.items()
        }
