"""Ending a run early that is worse than those before it."""

from collections.abc import Sequence
from typing import Literal

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from bitladder.errors import HopelessError


class StopHopeless(L.Callback):
    """Ends the run when its best score so far is below a floor, as the median rule does.

    The floor comes from finished runs, so that a run's own configuration says when it ends and
    nothing outside it is asked. The rule is the median stopping rule of Google Vizier (Golovin et
    al., KDD 2017) if the floor is the median of the others' best scores so far.

    Args:
        monitor: The metric, as logged at every validation.
        floor: The least score, validation by validation; after its end all go on.
        mode: ``max`` if a greater score is better.
        grace: So many validations are looked at by nobody.

    Raises:
        HopelessError: From the validation that fell below; names the score and the floor.
    """

    def __init__(
        self,
        monitor: str,
        floor: Sequence[float],
        mode: Literal["min", "max"] = "max",
        grace: int = 1,
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.floor = list(floor)
        self.mode = mode
        self.grace = grace
        self._best: float | None = None
        self._seen = 0

    def state_dict(self) -> dict[str, float | int | None]:
        """The best score and how many there were: a run that is resumed is judged as it was."""
        return {"best": self._best, "seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, float | int | None]) -> None:
        """Go on from a checkpoint."""
        self._best = state_dict["best"]
        self._seen = int(state_dict["seen"] or 0)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the best score so far with the floor."""
        score = trainer.callback_metrics.get(self.monitor)
        fitting = trainer.state.fn is TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or score is None:
            return
        better = max if self.mode == "max" else min
        # NaN is no score: a run that has only that is hopeless as soon as there is a floor.
        value = float(score)
        if value == value:
            self._best = value if self._best is None else better(self._best, value)
        number, self._seen = self._seen, self._seen + 1
        if number < self.grace or number >= len(self.floor):
            return
        floor = self.floor[number]
        if self._best is None or (self._best != floor and better(self._best, floor) == floor):
            raise HopelessError(
                f"{self.monitor} was at best {self._best} after {self._seen} validations, where the"
                f" finished runs had {floor:.4g}: this one was given up"
            )
