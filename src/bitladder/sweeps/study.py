"""A search's memory: Optuna's study in one SQLite file, which a kill neither loses nor doubles."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import optuna
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, Trial, TrialState

from bitladder.errors import UserError
from bitladder.sweeps.space import Axis, Value

STUDY_NAME = "bitladder"

Direction = Literal["maximize", "minimize"]

SAMPLERS: dict[str, type[BaseSampler]] = {
    "tpe": TPESampler,
    "nsga2": NSGAIISampler,
    "nsga3": NSGAIIISampler,
    "gp": GPSampler,
    "qmc": QMCSampler,
    "random": RandomSampler,
}
"""By name: Parzen estimators, two genetic ones, Gaussian processes, quasi-random, random."""

LARGEST_STREAK = 50
"""So many proposals in a row that were made before mean that nothing new is left."""


@dataclass(frozen=True)
class Candidate:
    """What to try next.

    Attributes:
        number: The trial's number in the study.
        values: A value an axis.
    """

    number: int
    values: dict[str, Value]


class Search:
    """Proposes what to try, and remembers what came of it.

    Every proposal and outcome is in the file before the call returns. What was proposed when a
    process died is proposed again, as the same trial, by the next.
    """

    def __init__(self, study: optuna.Study, space: Mapping[str, Axis]) -> None:
        self._study = study
        self._space = dict(space)
        self._begun: dict[int, Trial] = {}
        # Trials without an outcome when the study is opened: their process is gone.
        self._abandoned: list[FrozenTrial] = []
        for trial in self._trials(TrialState.RUNNING):
            if trial.params.keys() == self._space.keys():
                self._abandoned.append(trial)
            else:  # it died before it knew all of them, so nothing ran with them
                study.tell(trial.number, state=TrialState.FAIL)

    @classmethod
    def open(
        cls,
        path: Path,
        space: Mapping[str, Axis],
        objectives: Mapping[str, Direction],
        *,
        sampler: str,
        seed: int,
    ) -> Self:
        """Open a study, or begin one where there is no file.

        Args:
            path: The SQLite file, which ``optuna-dashboard sqlite:///FILE`` shows.
            space: What to vary, by name.
            objectives: Which way each outcome shall go, by name.
            sampler: A name in :data:`SAMPLERS`.
            seed: Of the sampler. Each opening draws anew, from the seed and the number of trials.

        Raises:
            UserError: If there is no such sampler, a bound is impossible, or the file holds a
                search over another space or for other objectives, or no study at all.
        """
        if sampler not in SAMPLERS:
            raise UserError(
                f"sweep.search.sampler={sampler} is unknown: write one of {', '.join(SAMPLERS)}"
            )
        for name, axis in space.items():
            try:
                axis.distribution()
            except ValueError as error:
                raise UserError(f"{name}: {error}") from error
        optuna.logging.set_verbosity(logging.WARNING)
        try:
            study = optuna.create_study(
                storage=f"sqlite:///{path}",
                study_name=STUDY_NAME,
                directions=list(objectives.values()),
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's, Optuna's: whatever the file leads them to
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path} cannot be opened as a search: {reason}") from error
        asked = {
            "space": {name: repr(axis) for name, axis in space.items()},
            "objectives": dict(objectives),
        }
        for what, value in asked.items():
            known = study.user_attrs.get(what)
            if known is None:
                study.set_user_attr(what, value)
            elif known != value:
                raise UserError(f"{path} holds a search with {_difference(what, known, value)}")
        with _experimental():
            study.set_metric_names(list(objectives))
        study.sampler = _sampler(sampler, seed + len(study.get_trials(deepcopy=False)))
        return cls(study, space)

    @property
    def finished(self) -> int:
        """How many trials have an outcome that counts: measured, or given up as hopeless."""
        return len(self._trials(TrialState.COMPLETE, TrialState.PRUNED))

    def ask(self) -> Candidate | None:
        """Propose what to try next.

        Returns:
            A candidate whose values no trial with an outcome has, or None if none is left.
        """
        if self._abandoned:
            return self._again(self._abandoned.pop(0))
        axes = {name: axis.distribution() for name, axis in self._space.items()}
        for _ in range(LARGEST_STREAK):
            with _experimental():
                trial = self._study.ask(axes)
            twin = self._same(trial)
            if twin is None:
                return self._candidate(trial)
            trial.set_user_attr("same_as", twin.number)
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def tell(self, candidate: Candidate, outcome: Sequence[float], **notes: Any) -> None:
        """Remember what was measured: an objective's value each, in their order.

        Args:
            candidate: What :meth:`ask` gave.
            outcome: Finite numbers.
            notes: Kept with the trial, in JSON types.
        """
        self._note(candidate, notes)
        self._study.tell(candidate.number, list(outcome))

    def give_up(self, candidate: Candidate, *, hopeless: bool, **notes: Any) -> None:
        """Remember that there is no outcome.

        Args:
            candidate: What :meth:`ask` gave.
            hopeless: Whether it was stopped for being worse than others, which the sampler learns
                from; else it failed, which it does not, and may be proposed again.
            notes: Kept with the trial, in JSON types.
        """
        self._note(candidate, notes)
        state = TrialState.PRUNED if hopeless else TrialState.FAIL
        self._study.tell(candidate.number, state=state)

    def notes(self, name: str) -> list[Any]:
        """What was noted under a name with every measured trial that has such a note."""
        trials = self._trials(TrialState.COMPLETE)
        return [trial.user_attrs[name] for trial in trials if name in trial.user_attrs]

    def front(self) -> list[int]:
        """Numbers of the measured trials that no other beats in every objective."""
        return [trial.number for trial in self._study.best_trials]

    def _again(self, frozen: FrozenTrial) -> Candidate:
        """A trial that another process began."""
        return self._candidate(Trial(self._study, frozen._trial_id))

    def _candidate(self, trial: Trial) -> Candidate:
        self._begun[trial.number] = trial
        return Candidate(trial.number, dict(trial.params))

    def _same(self, trial: Trial) -> FrozenTrial | None:
        """Another trial with an outcome, or on its way to one, that has the same values."""
        others = self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        same = (x for x in others if x.number != trial.number and x.params == trial.params)
        return next(same, None)

    def _note(self, candidate: Candidate, notes: Mapping[str, Any]) -> None:
        for name, value in notes.items():
            self._begun[candidate.number].set_user_attr(name, value)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)


def _sampler(name: str, seed: int) -> BaseSampler:
    with _experimental():
        return SAMPLERS[name](seed=seed)  # pyright: ignore[reportCallIssue]


def _experimental() -> AbstractContextManager[Any]:
    """Optuna says of some of what it offers that it may change."""
    return warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning)


def _difference(what: str, known: Mapping[str, str], asked: Mapping[str, str]) -> str:
    for name in [*known, *asked]:
        if known.get(name) != asked.get(name):
            return (
                f"{name} {known.get(name, 'not')} in its {what}, not {asked.get(name, 'without')}:"
                " give the sweep another name"
            )
    return f"its {what} in another order: give the sweep another name"
