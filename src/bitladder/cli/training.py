"""One run, from a checked configuration to a table of its rungs."""

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console

from bitladder.cli.assemble import Parts, assemble, make_trainer
from bitladder.cli.build import instantiate
from bitladder.cli.checkpoint import check_checkpoint
from bitladder.cli.configs import conf_dir
from bitladder.cli.logs import finish_wandb, logs_in, quiet_libraries, stderr_in_log
from bitladder.cli.ranks import lost_another, part, rank, shared_directory
from bitladder.cli.rungs import example_calls, measure
from bitladder.cli.schema import Config
from bitladder.errors import RankZeroError, RunError, UserError
from bitladder.quantization import Call
from bitladder.runs import Results, RunDirectory, Rung, ladder_table, write_atomic, write_json
from bitladder.runs.manifest import collect

PRECISION_SCHEMA_VERSION = 1
QUANTIZATION_SCHEMA_VERSION = 1


def train(config: Config) -> int:
    """Train, quantize, measure, and tell.

    With ``trainer.devices`` above 1 rank 0 measures, writes and tells; the others train with it.

    Args:
        config: A checked configuration.

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
        _check_checkpoint(config, parts)
    name = "-".join(
        (config.name, config.precision_name, config.quantization_name, f"s{config.seed}")
    )
    console = Console(soft_wrap=True, quiet=rank() > 0)
    with shared_directory(Path(config.paths["runs"]), name) as directory:
        console.print(f"run directory: {directory.path}", highlight=False)
        with logs_in(directory.log_of(rank())), _recorded(config, directory):
            try:
                results = _run(config, parts, directory, console)
            except RankZeroError:
                return 0  # Rank 0 says it, and what the run's status is.
    if results is not None:
        console.print(ladder_table(results))
    console.print(str(directory.path), highlight=False)
    return 0


def _check_checkpoint(config: Config, parts: Parts) -> None:
    optimizer = instantiate(config.optimizer, "optimizer")(parts.task.parameters())
    scheduler = None
    if config.scheduler is not None:
        scheduler = instantiate(config.scheduler, "scheduler")(optimizer, total_steps=1000)
    assert config.checkpoint is not None
    check_checkpoint(config.checkpoint, parts.task, optimizer, scheduler, parts.precision)


def _run(config: Config, parts: Parts, directory: RunDirectory, console: Console) -> Results | None:
    """The run's results, on rank 0."""
    trainer = make_trainer(config, parts, directory)
    parts.precision.attach(trainer.strategy.root_device)
    if rank() == 0:
        _write_origin(config, parts, directory)
    with stderr_in_log():
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):  # config.yaml is beside its file already
                logger.log_hyperparams(config.model_dump())
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(
            parts.task, datamodule=parts.data, ckpt_path=config.checkpoint, weights_only=True
        )
    except SystemExit as error:
        # So Lightning ends an interrupted training; from then on it ignores the signal.
        signal.signal(signal.SIGINT, interrupt)
        raise KeyboardInterrupt from error
    examples = example_calls(trainer, parts)
    part()  # Metrics would wait for the other ranks, which have nothing more to do.
    if rank() > 0:
        return None
    return _finish(config, parts, directory, console, trainer, examples)


def _write_origin(config: Config, parts: Parts, directory: RunDirectory) -> None:
    write_atomic(directory.config, config.to_yaml())
    manifest = collect(
        command=sys.argv,
        seed=config.seed,
        config=config.to_yaml(),
        data_fingerprint=parts.data.fingerprint(),
        precision=config.precision_name,
        effective_precision=parts.precision.effective(),
        project=conf_dir().parent,
    )
    write_json(directory.manifest, manifest)


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
        assert parts.quantization.deployment is not None
        deployment = parts.quantization.deployment
        record = {
            "schema_version": QUANTIZATION_SCHEMA_VERSION,
            "method": config.quantization["method"],
            "target": parts.quantization.target,
            "output_sqnr_db": deployment.output_sqnr_db,
            "int8_share": deployment.int8_share,
            "layers": deployment.layers,
        }
        write_json(directory.quantization, record)
    console.print("measuring the rungs: compile, test, time")
    rungs = measure(parts, directory, examples)
    for logger in trainer.loggers:
        logger.log_metrics(_flat(rungs), step=trainer.global_step)
        logger.save()
    results = Results(
        status="completed",
        experiment=config.experiment,
        precision=config.precision_name,
        quantization=config.quantization_name,
        seed=config.seed,
        effective_precision=effective_precision,
        rungs=rungs,
    )
    results.write(directory.results)
    return results


@contextmanager
def _recorded(config: Config, directory: RunDirectory) -> Iterator[None]:
    """Let a failure leave ``results.json`` and every wandb run finish with its exit code."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        reason = f"{what}: {error.filename or directory.path}"
        raise RunError(_fail(config, directory, reason)) from error
    except RuntimeError as error:
        if not lost_another(error):
            raise
        reason = f"rank {rank()} lost another rank, which says why"
        raise RunError(_fail(config, directory, reason)) from error
    except (UserError, RunError, KeyboardInterrupt) as error:
        _fail(config, directory, str(error) or "interrupted")
        raise
    finally:
        finish_wandb(exit_code)


def _fail(config: Config, directory: RunDirectory, reason: str) -> str:
    """Write down why the run failed, if that can still be written and is this rank's to do."""
    if rank() > 0:
        return reason
    try:
        Results(
            status="failed",
            experiment=config.experiment,
            precision=config.precision_name,
            quantization=config.quantization_name,
            seed=config.seed,
            reason=reason,
        ).write(directory.results)
    except (UserError, RunError) as error:
        return f"{reason}; and {shlex.quote(str(directory.results))} was not written: {error}"
    return reason


def _flat(rungs: dict[str, Rung]) -> dict[str, float]:
    """The rungs as columns of a logger: ``int8/test/accuracy``, ``int8/size_bytes``, ..."""
    columns: dict[str, float] = {}
    for name, rung in rungs.items():
        columns |= {f"{name}/{key}": value for key, value in rung.metrics.items()}
        columns |= {f"{name}/latency_ms/{key}": value for key, value in rung.latency_ms.items()}
        columns[f"{name}/size_bytes"] = float(rung.size_bytes)
    return columns
