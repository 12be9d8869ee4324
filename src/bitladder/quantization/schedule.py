"""When quantization-aware training does what."""

from dataclasses import dataclass

from bitladder.errors import UserError

Moment = int | float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Three moments of a training.

    A moment is an epoch (an ``int``: 3 is the start of the fourth epoch) or a fraction of the
    whole training (a ``float`` in [0, 1]).

    Raises:
        UserError: If a moment is negative, a fraction above 1, or a freeze comes before the start.
    """

    start: Moment = 0
    """Before it the model trains in float."""
    freeze_observers: Moment = 0.75
    """From it on the ranges stay as they are."""
    freeze_batchnorm: Moment = 0.75
    """From it on folded BatchNorms keep their running statistics and normalise with them."""

    def __post_init__(self) -> None:
        for name in ("start", "freeze_observers", "freeze_batchnorm"):
            moment = getattr(self, name)
            if moment < 0 or (isinstance(moment, float) and moment > 1.0):
                raise UserError(
                    f"quantization.{name}={moment}: write an epoch (an integer from 0) or a"
                    " fraction of the training (a decimal from 0.0 to 1.0)"
                )
        for name in ("freeze_observers", "freeze_batchnorm"):
            moment = getattr(self, name)
            if type(moment) is type(self.start) and moment < self.start:
                raise UserError(
                    f"quantization.{name}={moment} comes before quantization.start={self.start}"
                )

    def reached(self, moment: Moment, *, epoch: int, fraction: float) -> bool:
        """Whether ``moment`` has come, ``epoch`` epochs or ``fraction`` of the training in."""
        return fraction >= moment if isinstance(moment, float) else epoch >= moment
