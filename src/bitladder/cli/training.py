"""One run, from a checked configuration to a table of its rungs."""

import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console

from bitladder.callbacks import LastCheckpoint
from bitladder.cli.assemble import Parts, assemble, make_trainer
from bitladder.cli.build import instantiate
from bitladder.cli.checkpoint import check_checkpoint
from bitladder.cli.configs import conf_dir
from bitladder.cli.determinism import differing
from bitladder.cli.interrupts import interruptible
from bitladder.cli.later import remove
from bitladder.cli.logs import logs_in, quiet_libraries
from bitladder.cli.ranks import lock, part, rank, shared_directory
from bitladder.cli.record import (
    failure_recorded,
    log_rungs,
    results_of,
    write_quantization,
)
from bitladder.cli.restoring import restoring
from bitladder.cli.run_page import write_page
from bitladder.cli.rungs import example_calls, measure
from bitladder.cli.schema import Config
from bitladder.cli.tracking import (
    closed_at_end,
    log_config,
    log_files,
    log_report,
    notes,
    wandb_records,
)
from bitladder.cli.trusted_loggers import resume_command
from bitladder.errors import RankZeroError, UserError
from bitladder.quantization import Call
from bitladder.runs import (
    Results,
    RunDirectory,
    conditions,
    hardware,
    ladder_table,
    read_json,
    sha256,
    write_atomic,
    write_json,
)
from bitladder.runs.manifest import collect, package_versions
from bitladder.runs.reproduction import elsewhere, shown
from bitladder.tasks import Classification

PRECISION_SCHEMA_VERSION = 1

INTERVAL = "val_check_interval"
"""Lightning learns only from the data that it is longer than an epoch."""


def train(config: Config, opened: Callable[[RunDirectory], None] = lambda _: None) -> int:
    """Train, quantize, measure, and tell.

    With ``trainer.devices`` above 1 rank 0 measures, writes and tells; the others train with it.

    Args:
        config: A checked configuration.
        opened: Is given the run's directory once it is made.

    Returns:
        0. The last line printed is the run's directory.

    Raises:
        UserError: If a part refuses what it was given.
        RunError: If the run failed; ``results.json`` then says so.
    """
    quiet_libraries()
    L.seed_everything(config.seed, workers=True, verbose=False)
    parts = assemble(config)
    if config.checkpoint is not None:
        check_start(config.checkpoint, config, parts)
    console = Console(soft_wrap=True, quiet=rank() > 0)
    with (
        shared_directory(Path(config.paths["runs"]), config.run_name) as directory,
        lock(directory),
    ):
        console.print(f"run directory: {directory.path}", highlight=False)
        opened(directory)
        return go_through(config, parts, directory, console, start=config.checkpoint)


def go_through(
    config: Config,
    parts: Parts,
    directory: RunDirectory,
    console: Console,
    *,
    start: str | None,
    anew: bool = True,
    later: Sequence[Path] = (),
) -> int:
    """What follows when there is a run directory, of a new run or of one that goes on.

    Args:
        config: The run's.
        parts: Made of it.
        directory: The run's.
        console: Where to tell.
        start: The checkpoint that training goes on from.
        anew: Whether the directory is to say where the run comes from.
        later: Checkpoints that the run writes again, to be removed when it goes on.
    """
    go_on = f"go on with: {resume_command(config, directory)}"
    with logs_in(directory.log_of(rank())), failure_recorded(config, directory, go_on=go_on):
        try:
            with interruptible():
                results = _run(config, parts, directory, console, start, anew, later)
        except (RankZeroError, KeyboardInterrupt):
            if rank() == 0:
                raise
            return 0  # Rank 0 says it, and what the run's status is.
    if results is not None:
        console.print(ladder_table(results))
    console.print(str(directory.path), highlight=False)
    return 0


def check_start(checkpoint: str, config: Config, parts: Parts) -> dict[str, Any]:
    """Refuse a checkpoint from which this run cannot go on.

    Returns:
        What is in it.

    Raises:
        UserError: As :func:`bitladder.cli.checkpoint.check_checkpoint` does.
    """
    optimizer = scheduler = None
    # A task that makes its own has others than the configuration; Lightning compares those.
    ours = type(parts.task).configure_optimizers is Classification.configure_optimizers
    if ours:
        optimizer = instantiate(config.optimizer, "optimizer")(parts.task.parameters())
    if ours and config.scheduler is not None:
        scheduler = instantiate(config.scheduler, "scheduler")(optimizer, total_steps=1000)
    return check_checkpoint(checkpoint, parts.task, optimizer, scheduler, parts.precision)


def _run(
    config: Config,
    parts: Parts,
    directory: RunDirectory,
    console: Console,
    start: str | None,
    anew: bool,
    later: Sequence[Path],
) -> Results | None:
    """The run's results, on rank 0."""
    trainer = make_trainer(config, parts, directory)
    with closed_at_end(trainer.loggers):
        results = _train(config, parts, directory, console, trainer, start, anew, later)
    if results is not None:
        results.write(directory.results)
    return results


def _train(
    config: Config,
    parts: Parts,
    directory: RunDirectory,
    console: Console,
    trainer: L.Trainer,
    start: str | None,
    anew: bool,
    later: Sequence[Path],
) -> Results | None:
    parts.precision.attach(trainer.strategy.root_device)
    reasons = differing(config, parts, trainer.strategy.root_device)
    for reason in reasons:
        console.print(f"not reproducible to the bit: {reason}", highlight=False, markup=False)
    if rank() == 0 and anew:
        _write_origin(config, parts, directory, wandb_records(trainer.loggers), reasons)
    elif rank() == 0:
        _tell_machine(directory, console)
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, LastCheckpoint) and directory.manifest.is_file():
            callback.run = sha256(directory.manifest)
    for note in notes(trainer.loggers):
        console.print(note, highlight=False)
    log_config(trainer.loggers, config)
    try:
        with interruptible(trainer), restoring(trainer, start, partial(remove, later)):
            trainer.fit(parts.task, datamodule=parts.data, ckpt_path=start, weights_only=True)
    except SystemExit as error:
        # So Lightning ends an interrupted training.
        raise error.__context__ or error  # noqa: B904
    except (MisconfigurationException, ValueError) as error:
        if not isinstance(error, MisconfigurationException) and INTERVAL not in str(error):
            raise
        raise UserError(f"trainer: {error}") from error
    if trainer.fit_loop.epoch_loop.total_batch_idx < 0:
        raise UserError(
            "no batch was trained: look at trainer.max_epochs, max_steps, max_time and"
            " limit_train_batches"
        )
    examples = example_calls(trainer, parts)
    part()  # Metrics would wait for the other ranks, which have nothing more to do.
    if rank() > 0:
        return None
    return _finish(config, parts, directory, console, trainer, examples)


def _write_origin(
    config: Config,
    parts: Parts,
    directory: RunDirectory,
    tracking: dict[str, Any],
    not_deterministic: Sequence[str],
) -> None:
    write_atomic(directory.config, config.to_yaml())
    manifest = collect(
        command=sys.argv,
        seed=config.seed,
        config=config.to_yaml(),
        data_fingerprint=parts.data.fingerprint(),
        precision=config.precision_name,
        effective_precision=parts.precision.effective(),
        project=conf_dir().parent,
        not_deterministic=not_deterministic,
    )
    if config.checkpoint is not None:
        manifest["start_sha256"] = sha256(Path(config.checkpoint))
    write_json(directory.manifest, manifest | {"tracking": tracking})


def _tell_machine(directory: RunDirectory, console: Console) -> None:
    """Say aloud what keeps the end of a run that goes on from being the very same."""
    before = read_json(directory.manifest)
    here = {
        "packages": package_versions(),
        "python": platform.python_version(),
        "hardware": hardware.describe(),
        "conditions": conditions.describe(),
    }
    for place, (recorded, now) in elsewhere(before, here).items():
        if "memory_bytes" not in place:
            name = place.removeprefix("packages.")
            console.print(
                f"{shown(name)} is {shown(now)} here and was {shown(recorded)}: the last bits may"
                " differ",
                highlight=False,
                markup=False,
            )


def _finish(
    config: Config,
    parts: Parts,
    directory: RunDirectory,
    console: Console,
    trainer: L.Trainer,
    examples: Sequence[Call],
) -> Results:
    effective_precision = parts.precision.effective()
    if (report := parts.precision.report()) is not None:
        record = {"schema_version": PRECISION_SCHEMA_VERSION} | report
        write_json(directory.precision, record)
        console.print(f"{report['summary']}: see {directory.precision.name}", highlight=False)
    if parts.quantization is not None:
        write_quantization(parts.quantization, directory)
    console.print("measuring the rungs: compile, test, time")
    rungs = measure(parts, directory, examples)
    log_rungs(rungs, trainer)
    results = results_of(config, directory, effective_precision, rungs)
    write_page(config, directory, results)
    log_files(trainer.loggers, config, directory)
    if config.report:
        log_report(trainer.loggers, directory, results)
    return results
