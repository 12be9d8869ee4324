"""``train -m`` by bitladder's own sweeper: plan, run what is not done, show, tell."""

import hashlib
import json
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from bitladder.cli.compose import Source, compose, one_line_errors
from bitladder.cli.overrides import combinations, is_sweep, parse
from bitladder.cli.rules import check
from bitladder.cli.run_page import write_sweep_page
from bitladder.cli.schema import Config
from bitladder.cli.sweep_settings import SweepSettings, read_settings
from bitladder.cli.validate import validate
from bitladder.errors import UserError
from bitladder.runs.sweep_directory import Job, JobRecord, SweepDirectory, SweepPlan
from bitladder.sweeps.display import Display
from bitladder.sweeps.outcome import Outcomes
from bitladder.sweeps.process import JobProcess, start
from bitladder.sweeps.runner import DONE, Runner

JOB = "bitladder.cli.job:run_job"

WITHOUT = ("paths", "name", "choices", "logger")
"""Sections that make no other run: where it goes, what it is called and who is told."""


def run_sweep(composed: DictConfig, arguments: Sequence[str]) -> int:
    """Run a sweep, or go on with one.

    Args:
        composed: The configuration with its ``hydra`` and ``sweep`` nodes, as the sweeper got it.
        arguments: The overrides, sweeps among them.

    Returns:
        0 if every job is done, else 1.

    Raises:
        UserError: If any job's configuration is wrong, or the folder holds another sweep; nothing
            has run then.
    """
    with one_line_errors():
        settings = read_settings(composed)
        # Of Hydra's own overrides the jobs need the one that finds the user's configurations.
        hydra = [x for x in composed.hydra.overrides.hydra if x.startswith("hydra.searchpath=")]
        asked = {text.partition("=")[0].lstrip("+"): text for text in arguments}
        # On the command line dots in them nest, in a file they do not.
        given = {**settings.params, **_flat(composed.hydra.sweeper.params or {})}
        params = [f"{k}={v}" for k, v in given.items() if k not in asked]
        overrides = [*hydra, *params, *arguments]
        choice = composed.hydra.runtime.choices.get("sweep")
        if settings.search is not None:
            from bitladder.cli.searching import run_search

            return run_search(settings, overrides, str(choice), _folder(composed))
    plan = make_plan(overrides, settings)
    directory = SweepDirectory(
        _folder(composed) or default_folder(settings, plan.config, str(choice), plan.config_sha256)
    )
    with directory.held():
        plan = agreed(directory, plan, extend=settings.extend)
        directory.write_plan(plan)
        records = run_jobs(directory, plan.jobs, settings)
    return finish(directory, records)


def make_plan(overrides: Sequence[str], settings: SweepSettings) -> SweepPlan:
    """Every combination of the overrides' values, each composed and checked.

    Raises:
        UserError: If one is wrong.
    """
    for text in overrides:
        override = parse(text)
        if is_sweep(override) and not override.is_discrete_sweep():
            raise UserError(
                f"{text.lstrip('+')} has no end of values: write sweep=search to search them"
            )
    jobs: dict[str, Job] = {}
    first: dict[str, Any] = {}
    varied = {parse(text).get_key_element() for text in overrides if is_sweep(parse(text))}
    for combination in combinations(overrides):
        config, given = configured(combination, settings)
        name = " ".join(x.lstrip("+") for x in combination if x.partition("=")[0] in varied)
        job_id = digest(comparable(config))[:12]
        jobs.setdefault(job_id, Job(id=job_id, name=name or config.run_name, overrides=given))
        first = first or config.model_dump()
    return SweepPlan(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        overrides=list(overrides),
        config_sha256=digest(sorted(jobs)),
        settings=settings.model_dump(),
        config=first,
        jobs=list(jobs.values()),
    )


def configured(overrides: Sequence[str], settings: SweepSettings) -> tuple[Config, list[str]]:
    """A job's checked configuration, and all the overrides that make it.

    Raises:
        UserError: If it is wrong.
    """
    source = Source(())
    values = compose(source, overrides)
    keys = {text.partition("=")[0].lstrip("+") for text in overrides}
    more = [
        text
        for condition, added in settings.when.items()
        if all(_holds(x, values["choices"]) for x in condition.split(","))
        for text in added
        if text.partition("=")[0].lstrip("+") not in keys
    ]
    given = [*overrides, *more]
    config = validate(compose(source, given) if more else values)
    check(config)
    require_one_process(config)
    return config, given


def require_one_process(config: Config) -> None:
    """Another process would execute the command again, which is the whole sweep.

    Raises:
        UserError: If the run asks for several.
    """
    devices = config.trainer.get("devices", 1)
    if devices not in (1, "1") and not (isinstance(devices, list) and len(devices) == 1):
        raise UserError(
            f"trainer.devices={devices}: a run of a sweep has one process: write trainer.devices=1"
        )


def _holds(condition: str, choices: Mapping[str, str]) -> bool:
    group, _, choice = condition.strip().partition("=")
    return choices.get(group) == choice


def comparable(config: Config) -> dict[str, Any]:
    """What makes one run another: its configuration without where it goes."""
    return {key: value for key, value in config.model_dump().items() if key not in WITHOUT}


def digest(content: object) -> str:
    """A hash of plain containers."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _folder(composed: DictConfig) -> Path | None:
    """The folder that the user named, if they did."""
    if any(text.startswith("hydra.sweep.dir=") for text in composed.hydra.overrides.hydra):
        return Path(composed.hydra.sweep.dir)
    return None


def default_folder(
    settings: SweepSettings, config: Mapping[str, Any], choice: str, content: str
) -> Path:
    """Where a sweep of this content goes unless the user says so."""
    kind = "" if choice in ("default", "None") else f"-{choice}"
    experiment = config["choices"].get("experiment", "sweep")
    name = settings.name or f"{experiment}{kind}-{content[:8]}"
    return Path(config["paths"]["sweeps"]) / name


NOT_PLAIN = re.compile(r"_target_|_args_|\$\{|dirpath|^[+~]*(hydra|paths|local)\b")
"""Overrides that name code, look things up elsewhere, or say where to write."""


def agreed(directory: SweepDirectory, plan: SweepPlan, *, extend: bool) -> SweepPlan:
    """The plan to go on with: this one, together with the jobs that the folder has already.

    Raises:
        UserError: If the folder holds another sweep, and it may not be extended.
    """
    known = directory.read_plan()
    if known is None:
        return plan
    before, now = {job.id for job in known.jobs}, {job.id for job in plan.jobs}
    if before == now:
        return plan
    if not extend:
        raise UserError(
            f"{directory.path} holds another sweep ({_difference(known, plan)}): write"
            " sweep.name=ANOTHER, or sweep.extend=true to add these jobs to it"
        )
    _check_recorded(directory, known, plan)
    jobs = [*known.jobs, *(job for job in plan.jobs if job.id not in before)]
    return SweepPlan(**{**vars(plan), "jobs": jobs, "created": known.created})


def _check_recorded(directory: SweepDirectory, known: SweepPlan, plan: SweepPlan) -> None:
    """Refuse jobs that run code or write where the command line does not: a folder is data."""
    given = {text for job in plan.jobs for text in job.overrides}
    for job in known.jobs:
        for text in job.overrides:
            if text not in given and NOT_PLAIN.search(text):
                raise UserError(
                    f"{directory.path} records {text}, which may run any code: write it on the"
                    " command line, too, if that sweep is yours"
                )


def _difference(known: SweepPlan, plan: SweepPlan) -> str:
    """The first thing that is not as it was."""
    asked = [text.lstrip("+") for text in plan.overrides]
    given = [text.lstrip("+") for text in known.overrides]
    if new := [text for text in asked if text not in given]:
        return f"{new[0]} is new to it"
    if gone := [text for text in given if text not in asked]:
        return f"it had {gone[0]}"
    before, now = _flat(known.config), _flat(plan.config)
    for key in [*before, *now]:
        if key.partition(".")[0] not in WITHOUT and before.get(key) != now.get(key):
            return f"it had {key}={before.get(key)}, not {now.get(key)}"
    return "its jobs are others"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def run_jobs(
    directory: SweepDirectory, jobs: Sequence[Job], settings: SweepSettings
) -> list[JobRecord]:
    """Run what is not done yet, and show how it goes."""
    with make_runner(directory, settings) as runner:
        return runner.run(jobs)


@contextmanager
def make_runner(directory: SweepDirectory, settings: SweepSettings) -> Iterator[Runner]:
    """What runs jobs; the terminal shows them while the block lasts."""

    def begin(job: Job, unfinished: str | None) -> JobProcess:
        arguments = (job.overrides, str(directory.path.resolve()), unfinished)
        return start(JOB, arguments, directory.log_file(job.id))

    console = Console(soft_wrap=True)
    console.print(f"sweep: {directory.path}", highlight=False)
    display = Display(console, Outcomes(directory).best)
    try:
        with _termination_interrupts(), display:
            yield Runner(
                directory,
                begin,
                parallel=settings.jobs,
                retries=settings.retries,
                on_failure=settings.on_failure,
                watcher=display,
            )
    except KeyboardInterrupt:
        console.print(f"{directory.path}: the same command goes on", markup=False, highlight=False)
        raise


def finish(directory: SweepDirectory, records: Sequence[JobRecord]) -> int:
    """Print the table and the folder; gives the exit status."""
    console = Console(soft_wrap=True)
    console.print(Outcomes(directory).table(records))
    write_sweep_page(directory, console)
    left = [record for record in records if record.status not in DONE]
    for record in left:
        reason = f": {record.reason}" if record.reason else ""
        console.print(f"{record.status} {record.name}{reason}", markup=False, highlight=False)
    if left:
        console.print(f"{len(left)} of {len(records)} jobs are not done: the same command goes on")
    print(directory.path)
    return 1 if left else 0


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, also in the background of a shell, which ignores Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {x: signal.signal(x, interrupt) for x in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
