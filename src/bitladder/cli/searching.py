"""``train -m sweep=search``: Optuna proposes, jobs measure."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from bitladder.cli.overrides import is_sweep, parse
from bitladder.cli.sweep_settings import PruneSettings, SearchSettings, SweepSettings
from bitladder.cli.sweeping import configured, default_folder, digest, finish, make_runner
from bitladder.errors import UserError
from bitladder.runs import Results, RunRecord
from bitladder.runs.sweep_directory import Job, JobRecord, SweepDirectory, SweepPlan
from bitladder.sweeps.floor import floor_of
from bitladder.sweeps.outcome import Outcomes
from bitladder.sweeps.runner import Runner


def run_search(
    settings: SweepSettings, overrides: Sequence[str], choice: str, folder: Path | None
) -> int:
    """Search, or go on with a search, until so many trials have an outcome.

    Args:
        settings: Of the sweep, with those of the search.
        overrides: As on the command line; those that sweep make the space.
        choice: Of the group ``sweep``.
        folder: Where the user wants it, if they said so.

    Returns:
        0 if the last trials ended well, else 1.

    Raises:
        UserError: If the request is wrong, or Optuna is not installed; nothing has run then.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("sweep.search needs Optuna: pip install 'bitladder[search]'")
    from bitladder.sweeps.study import Search

    search = settings.search
    assert search is not None
    space = {
        override.get_key_element(): axis(text, override)
        for text in overrides
        if is_sweep(override := parse(text))
    }
    if not space:
        raise UserError("a search needs something to vary: write KEY=A,B or KEY=interval(LOW,HIGH)")
    # How many trials there shall be, for one, makes no other search and no other run.
    fixed = [x for x in overrides if not is_sweep(parse(x)) and not _is_setting(x)]
    firsts = [f"{name}={_text(_first(x))}" for name, x in space.items()]
    config, _ = configured([*fixed, *firsts], settings)
    asked = {"fixed": fixed, "space": {k: repr(v) for k, v in space.items()}}
    content = digest([asked, dict(search.objectives)])
    values = config.model_dump()
    directory = SweepDirectory(folder or default_folder(settings, values, choice, content))
    with directory.held():
        known = directory.read_plan()
        if known is not None and known.config_sha256 != content:
            raise UserError(
                f"{directory.path} holds another sweep: write sweep.name=ANOTHER to begin one"
            )
        plan = known or SweepPlan(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            overrides=list(overrides),
            config_sha256=content,
            settings=settings.model_dump(),
            config=values,
        )
        directory.write_plan(plan)
        study = Search.open(
            directory.study, space, search.objectives, sampler=search.sampler, seed=search.seed
        )
        with make_runner(directory, settings) as runner:
            loop = _Loop(directory, plan, study, runner, settings, search, fixed)
            loop.run()
        records = directory.records()
    front = ", ".join(f"trial-{number:04d}" for number in study.front())
    print(f"not beaten in every objective: {front or 'none yet'}")
    print(f"optuna-dashboard sqlite:///{directory.study}")
    return finish(directory, records)


class _Loop:
    """Asks, runs, tells."""

    def __init__(
        self,
        directory: SweepDirectory,
        plan: SweepPlan,
        study: Any,
        runner: Runner,
        settings: SweepSettings,
        search: SearchSettings,
        fixed: Sequence[str],
    ) -> None:
        self.directory, self.plan, self.study, self.runner = directory, plan, study, runner
        self.settings, self.search, self.fixed = settings, search, list(fixed)
        self.outcomes = Outcomes(directory)

    def run(self) -> None:
        """Go on until enough trials have an outcome, nothing new is left, or a job failed."""
        while (missing := self.search.trials - self.study.finished) > 0:
            asked = [self.study.ask() for _ in range(min(missing, self.settings.jobs))]
            candidates = [candidate for candidate in asked if candidate is not None]
            if not candidates:
                return
            jobs = [self._job(candidate) for candidate in candidates]
            # A trial that is asked again may have got another floor.
            known = {job.id: job for job in [*self.plan.jobs, *jobs]}
            self.plan = SweepPlan(**{**vars(self.plan), "jobs": list(known.values())})
            self.directory.write_plan(self.plan)
            records = self.runner.run(jobs)
            told = [self._tell(*pair) for pair in zip(candidates, records, strict=True)]
            if not any(told) and self.settings.on_failure == "stop":
                return
            if not any(told) and not self.study.finished:
                return  # the very first fails: all would

    def _job(self, candidate: Any) -> Job:
        varied = [f"{name}={_text(value)}" for name, value in candidate.values.items()]
        overrides = [*self.fixed, *varied]
        _, given = configured(overrides, self.settings)
        if self.search.prune is not None:
            given += _pruning(self.search.prune, self._floor(self.search.prune))
        name = " ".join(text.lstrip("+") for text in varied)
        return Job(id=f"trial-{candidate.number:04d}", name=name, overrides=given)

    def _floor(self, prune: PruneSettings) -> list[float]:
        return floor_of(
            self.study.notes("curve"),
            mode=prune.mode,
            share=prune.share,
            least_runs=prune.least_runs,
        )

    def _tell(self, candidate: Any, record: JobRecord) -> bool:
        """Whether the trial has an outcome now."""
        notes = {"run": record.run, "job": record.id}
        if record.status == "pruned":
            self.study.give_up(candidate, hopeless=True, reason=record.reason, **notes)
            return True
        results = self.outcomes.of(record)
        if results is None:
            self.study.give_up(candidate, hopeless=False, reason=record.reason, **notes)
            return False
        values = [objective(results, name) for name in self.search.objectives]
        missing = [n for n, x in zip(self.search.objectives, values, strict=True) if x is None]
        if missing:
            raise UserError(
                f"sweep.search.objectives: {record.run} measured no finite {missing[0]}; it has"
                f" {', '.join(sorted(measured(results)))}"
            )
        self.study.tell(candidate, values, curve=self._curve(record), **notes)
        return True

    def _curve(self, record: JobRecord) -> list[float]:
        if self.search.prune is None or record.run is None:
            return []
        metrics = RunRecord.read(self.directory.path / record.run).metrics
        series = metrics.get(self.search.prune.monitor)
        return list(series.values) if series else []


def _is_setting(text: str) -> bool:
    """Whether an override is about the sweep, not about its runs."""
    return text.lstrip("+~").partition("=")[0].partition(".")[0] == "sweep"


def axis(text: str, override: Override) -> Any:
    """What Hydra's syntax for a sweep means for a search.

    Raises:
        UserError: If it has no meaning there.
    """
    from bitladder.sweeps.space import Choice, Interval

    match override.value():
        case IntervalSweep(start=low, end=high, tags=tags):
            assert low is not None
            assert high is not None
            whole = isinstance(low, int) and isinstance(high, int)
            return Interval(low, high, log="log" in tags, integer=whole)
        case ChoiceSweep() | RangeSweep():
            values = tuple(_plain(x) for x in override.sweep_iterator())
            return Choice(values)
    raise UserError(f"{text} cannot be searched: write KEY=A,B or KEY=interval(LOW,HIGH)")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _first(space: Any) -> Any:
    return space.values[0] if hasattr(space, "values") else space.low


def _text(value: Any) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def measured(results: Results) -> dict[str, float]:
    """What a run measured, by the names that objectives have."""
    values: dict[str, float] = {}
    for name, rung in results.rungs.items():
        values |= {f"{name}/{key}": value for key, value in rung.metrics.items()}
        values |= {f"{name}/latency_ms/{key}": value for key, value in rung.latency_ms.items()}
        values[f"{name}/size_bytes"] = float(rung.size_bytes)
    return values


def objective(results: Results, name: str) -> float | None:
    """One of these; None if it was not measured, or is not finite."""
    value = measured(results).get(name)
    return value if value is not None and math.isfinite(value) else None


def _pruning(prune: PruneSettings, floor: Sequence[float]) -> list[str]:
    if not floor:
        return []
    node: Mapping[str, Any] = {
        "_target_": "bitladder.callbacks.StopHopeless",
        "monitor": f"'{prune.monitor}'",
        "mode": prune.mode,
        "grace": prune.grace,
        "floor": "[" + ",".join(f"{x:.6g}" for x in floor) + "]",
    }
    return ["+callbacks.prune={" + ",".join(f"{k}:{v}" for k, v in node.items()) + "}"]
