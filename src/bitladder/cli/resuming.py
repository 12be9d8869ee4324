"""Going on with a run in its own directory."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from rich.console import Console

from bitladder.cli.assemble import Parts, assemble
from bitladder.cli.checkpoint import check_same_start
from bitladder.cli.finished import FinishedRun, inside
from bitladder.cli.later import later_checkpoints
from bitladder.cli.logs import quiet_libraries
from bitladder.cli.options import ResumeOptions, read_options
from bitladder.cli.ranks import lock, rank
from bitladder.cli.reopen import BUILT, reopen
from bitladder.cli.rules import check
from bitladder.cli.schema import Config
from bitladder.cli.threads import as_many_threads
from bitladder.cli.training import check_start, go_through
from bitladder.cli.trusted_loggers import check_loggers
from bitladder.cli.trusted_parts import WRITERS, check_parts
from bitladder.errors import UserError
from bitladder.runs import RunDirectory, read_json
from bitladder.runs.sealed import damage

LEFT_BEHIND = (".*.tmp", "checkpoints/.*.tmp", ".compile-*", ".unproven-*")
"""What a process writes to before it gives the file its name, and leaves when it is killed."""


def resume(path: str, texts: Sequence[str]) -> int:
    """Go on with a run.

    Args:
        path: Its directory, as the user wrote it.
        texts: ``key=value``, as on the command line.

    Returns:
        0, also for a run that is completed already. The last line printed is the run's directory.

    Raises:
        UserError: If the run cannot go on here; nothing has changed then.
        RunError: If it failed; its ``results.json`` then says so.
    """
    options, data = read_options(ResumeOptions, [f"run={path}", *texts], {"data"})
    console = Console(soft_wrap=True, quiet=rank() > 0)
    run = FinishedRun.open(options.run, allow_unfinished=True, trust_links=options.trust_links)
    if run.results is not None:
        if (damage := run.results.damage(run.directory.path)) is not None:
            raise UserError(
                f"run={options.run} is completed, but {damage}: bitladder reproduce"
                f" {options.run} makes it again, in another folder"
            )
        console.print("the run is completed: nothing is left to do")
        console.print(str(run.directory.path), highlight=False)
        return 0
    check_links(run.directory)
    with lock(run.directory), _threads(run, console):
        config = reopen(run, allow=options.allow, data=data, built=(*BUILT, *WRITERS, "logger"))
        check_parts(run.values, WRITERS, options.allow)
        if not options.trust_loggers:
            check_loggers(run.values, options.allow)
        return _go_on(run, config, prepare(run, config, console), console)


def take_up(path: Path, config: Config) -> int | None:
    """Go on with a run of a sweep that was killed or interrupted.

    What is built is what the sweep asks for: the directory's own configuration is only compared.

    Args:
        path: The run's directory.
        config: The job's, checked.

    Returns:
        The exit status, 0 too for a run that is completed already; None for one that cannot go on
        and has not changed: why was said.

    Raises:
        UserError: If a part refuses what it was given.
        RunError: If the run failed; its ``results.json`` then says so.
    """
    console = Console(soft_wrap=True)
    try:
        with ExitStack() as stack:
            run = FinishedRun.open(str(path), allow_unfinished=True)
            if run.results is not None:
                return 0
            if _but_for_paths(run.values) != _but_for_paths(yaml.safe_load(config.to_yaml())):
                raise UserError("its configuration is another")
            check_links(run.directory)
            stack.enter_context(lock(run.directory))
            stack.enter_context(_threads(run, console))
            ready = prepare(run, config, console)
            held = stack.pop_all()
    except UserError as error:
        console.print(f"{path} cannot go on: {error}", markup=False, highlight=False)
        return None
    with held:
        return _go_on(run, config, ready, console)


def _but_for_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "paths"}


@dataclass(frozen=True)
class Ready:
    """What a run that goes on needs."""

    parts: Parts
    start: str | None
    """The checkpoint that it goes on from."""
    later: list[Path]
    """Checkpoints that it will write again."""


def prepare(run: FinishedRun, config: Config, console: Console) -> Ready:
    """Find out where a run goes on.

    Raises:
        UserError: If it cannot go on to the same end; nothing has changed then.
    """
    check_resumable(run, config)
    check(config.model_copy(update={"checkpoint": None}))  # it may go on from one of its own
    quiet_libraries()
    L.seed_everything(config.seed, workers=True, verbose=False)
    parts = assemble(config)
    if run.data_fingerprint not in (None, parts.data.fingerprint()):
        raise UserError(
            f"the data are not those that {run.directory.path} was trained on: write"
            " data.root=FOLDER, the one with the same data"
        )
    checkpoint = last_whole(run.directory, console)
    start, content = config.checkpoint, None
    if checkpoint is not None:
        start = str(checkpoint)
        content = check_start(str(checkpoint), config, parts)
        if not _of_last_checkpoint(content):
            raise UserError(
                f"{checkpoint} was not written by LastCheckpoint, so that nothing can go on exactly"
                f" from it: write bitladder train checkpoint={checkpoint} for a run of its own"
            )
        step = content.get("global_step")
        console.print(f"going on from {checkpoint}, step {step}", highlight=False)
        if _rows_logged(content) and not run.directory.metrics.exists():
            console.print("metrics.csv is gone: it begins with what is logged from here on")
    else:
        if start is not None:
            check_same_start(start, _manifest(run))
            check_start(start, config, parts)
        console.print("nothing was saved yet: the run starts from its beginning")
    return Ready(parts, start, later_checkpoints(run.directory, content))


def _go_on(run: FinishedRun, config: Config, ready: Ready, console: Console) -> int:
    if rank() == 0:
        _sweep_up(run.directory)
    anew = not run.directory.manifest.exists()
    return go_through(
        *(config, ready.parts, run.directory, console),
        start=ready.start,
        anew=anew,
        later=ready.later if rank() == 0 else (),
    )


def check_links(directory: RunDirectory) -> None:
    """Refuse a directory in which a file to be read or written is one elsewhere.

    What lies deeper is of loggers' processes that are over, and is neither read nor written: wandb
    itself has a link to its cache there.

    Raises:
        UserError: Names the first link that leads out of the directory.
    """
    folders = (directory.path, directory.tensorboard, directory.wandb)
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            inside(directory, path)
    for path in sorted(directory.checkpoints.rglob("*")):  # val/loss in a name makes a folder
        inside(directory, path)


def check_resumable(run: FinishedRun, config: Config) -> None:
    """Refuse a run that cannot go on to the same end.

    Raises:
        UserError: Says what is in the way.
    """
    directory = run.directory
    if "source" in _manifest(run):
        raise UserError(f"{directory.path} was made by bitladder quantize: run that again")
    if run.edited:
        raise UserError(
            f"{run.edited}, and would end otherwise: put it back, or begin a run of its own with"
            " bitladder train checkpoint=FILE"
        )
    targets = [node.get("_target_", "") for node in config.callbacks.values()]
    if not any(target.endswith(".LastCheckpoint") for target in targets):
        raise UserError(
            f"{directory.path} keeps no checkpoints to go on from exactly: its callbacks have no"
            " bitladder.callbacks.LastCheckpoint; start from one that it has, with bitladder train"
            " checkpoint=FILE"
        )


def last_whole(directory: RunDirectory, console: Console) -> Path | None:
    """The newest checkpoint whose every byte is as it was written; None if none was written yet.

    A damaged one is set aside, so that the next checkpoint does not push out the whole one.

    Raises:
        UserError: There are checkpoints and none is whole.
    """
    damaged = []
    for path in (directory.last_checkpoint, directory.previous_checkpoint):
        if not path.exists():
            continue
        reason = damage(path)
        if reason is None:
            for other, _ in damaged:
                if rank() == 0:
                    other.replace(other.with_name(f"{other.name}.damaged"))
            return path
        console.print(f"{path} is damaged: {reason}", highlight=False)
        damaged.append((path, reason))
    if damaged:
        raise UserError(
            f"no checkpoint of {directory.path} is whole ({damaged[0][0].name}: {damaged[0][1]}):"
            " remove its checkpoints to start from the beginning, or train anew"
        )
    return None


def _rows_logged(content: Mapping[str, Any]) -> int:
    """How many rows metrics.csv had when a checkpoint was written."""
    states = content.get("callbacks", {}).values()
    loggers = [x.get("loggers") for x in states if isinstance(x, dict)]
    rows = [x.get("rows") for y in loggers if isinstance(y, dict) for x in y.values()]
    return max((x for x in rows if isinstance(x, int)), default=0)


def _of_last_checkpoint(content: Mapping[str, Any]) -> bool:
    """Whether it says where training stands between two batches."""
    return any(
        isinstance(state, dict) and {"progress", "loggers", "over"} <= state.keys()
        for state in content.get("callbacks", {}).values()
    )


def _manifest(run: FinishedRun) -> dict[str, Any]:
    """The run's; empty where it was killed before there was one."""
    path = run.directory.manifest
    return read_json(path) if path.exists() else {}


@contextmanager
def _threads(run: FinishedRun, console: Console) -> Iterator[None]:
    """As many as the run had, if it says so."""
    manifest = _manifest(run)
    with as_many_threads(manifest, console) if manifest else nullcontext():
        yield


def _sweep_up(directory: RunDirectory) -> None:
    """Remove what the process before left half done, and its verdict."""
    directory.results.unlink(missing_ok=True)
    for pattern in LEFT_BEHIND:
        for path in directory.path.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
