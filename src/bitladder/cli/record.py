"""What every command that makes a run writes down about it."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L

from bitladder.callbacks import Quantization
from bitladder.cli.logs import finish_wandb
from bitladder.cli.ranks import lost_another, rank
from bitladder.cli.schema import Config
from bitladder.errors import Interrupted, RunError, UserError
from bitladder.runs import ArtifactFile, Results, RunDirectory, Rung, write_json
from bitladder.runs.results import Status

QUANTIZATION_SCHEMA_VERSION = 1
HISTOGRAMS_SCHEMA_VERSION = 1

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
"""What a write may fail with that knows no file's name."""


def write_quantization(quantization: Quantization, directory: RunDirectory) -> None:
    """Write ``quantization.json`` and ``histograms.json`` when the artifact is there.

    Raises:
        RunError: If it cannot be written.
    """
    deployment = quantization.deployment
    assert deployment is not None
    record = {
        "schema_version": QUANTIZATION_SCHEMA_VERSION,
        "method": quantization.recipe.method,
        "target": quantization.target,
        "output_sqnr_db": deployment.output_sqnr_db,
        "int8_share": deployment.int8_share,
        "artifacts": [artifact.to_json() for artifact in quantization.artifacts],
        "layers": deployment.layers,
    }
    write_json(directory.quantization, record)
    write_json(
        directory.histograms,
        {"schema_version": HISTOGRAMS_SCHEMA_VERSION, "layers": deployment.histograms},
    )


def log_rungs(rungs: dict[str, Rung], trainer: L.Trainer) -> None:
    """Give the loggers the rungs as columns: ``int8/test/accuracy``, ``int8/size_bytes``, ..."""
    columns: dict[str, float] = {}
    for name, rung in rungs.items():
        columns |= {f"{name}/{key}": value for key, value in rung.metrics.items()}
        columns |= {f"{name}/latency_ms/{key}": value for key, value in rung.latency_ms.items()}
        columns[f"{name}/size_bytes"] = float(rung.size_bytes)
    for logger in trainer.loggers:
        logger.log_metrics(columns, step=trainer.global_step)
        logger.save()


def results_of(
    config: Config,
    directory: RunDirectory,
    effective_precision: dict[str, Any],
    rungs: dict[str, Rung],
) -> Results:
    """What goes into ``results.json`` of a run that went well.

    It is the last thing to be written: a run that has it has nothing left to do.
    """
    return Results(
        status="completed",
        experiment=config.experiment,
        precision=config.precision_name,
        quantization=config.quantization_name,
        seed=config.seed,
        effective_precision=effective_precision,
        rungs=rungs,
        artifacts=[ArtifactFile.of(path) for path in directory.artifacts],
    )


@contextmanager
def failure_recorded(config: Config, directory: RunDirectory, *, go_on: str = "") -> Iterator[None]:
    """Let a failure leave ``results.json`` and every wandb run finish with its exit code.

    Args:
        config: The run's.
        directory: The run's.
        go_on: What to tell who interrupts the block.
    """
    exit_code = 1
    try:
        yield
        exit_code = 0
    except OSError as error:
        place = error.filename or (directory.path if error.errno in _OF_THE_DISK else None)
        if place is None:  # a connection's, or what else has no place on the disk
            _fail(config, directory, _fault(error))
            raise
        reason = f"{(error.strerror or str(error)).lower()}: {place}"
        raise RunError(_fail(config, directory, reason)) from error
    except RuntimeError as error:
        if not lost_another(error):
            _fail(config, directory, _fault(error))
            raise
        reason = f"rank {rank()} lost another rank, which says why"
        raise RunError(_fail(config, directory, reason)) from error
    except (UserError, RunError) as error:
        _fail(config, directory, str(error))
        raise
    except Exception as error:
        _fail(config, directory, _fault(error))
        raise
    except KeyboardInterrupt as error:
        _fail(config, directory, "interrupted", "interrupted")
        number = error.signal if isinstance(error, Interrupted) else signal.SIGINT
        raise Interrupted(number, go_on) from error
    finally:
        finish_wandb(exit_code)


def _fault(error: Exception) -> str:
    """What nobody foresaw, in one line; its traceback is on the terminal."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _fail(config: Config, directory: RunDirectory, reason: str, status: Status = "failed") -> str:
    """Write down why the run failed, if that can still be written and is this rank's to do."""
    if rank() > 0:
        return reason
    try:
        Results(
            status=status,
            experiment=config.experiment,
            precision=config.precision_name,
            quantization=config.quantization_name,
            seed=config.seed,
            reason=reason,
        ).write(directory.results)
    except (UserError, RunError) as error:
        return f"{reason}; and {error}"
    return reason
