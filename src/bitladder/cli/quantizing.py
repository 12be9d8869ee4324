"""One quantization after training, from a finished run to a new run directory."""

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
from rich.console import Console

from bitladder.callbacks import Quantization
from bitladder.cli.assemble import Parts, data_and_task, make_quantization
from bitladder.cli.checkpoint import load_weights
from bitladder.cli.compose import Source, compose
from bitladder.cli.configs import conf_dir
from bitladder.cli.csv_logger import CSVLogger
from bitladder.cli.finished import FinishedRun
from bitladder.cli.logs import logs_in, quiet_libraries
from bitladder.cli.options import QuantizeOptions, read_options
from bitladder.cli.record import (
    failure_recorded,
    log_rungs,
    results_of,
    write_quantization,
)
from bitladder.cli.reopen import reopen
from bitladder.cli.run_page import write_page
from bitladder.cli.rungs import cpu_trainer, measure
from bitladder.cli.schema import Config
from bitladder.errors import UserError
from bitladder.precision import Fp32Precision
from bitladder.runs import (
    Results,
    RunDirectory,
    ladder_table,
    sha256,
    write_atomic,
    write_json,
)
from bitladder.runs.manifest import collect


@dataclass(frozen=True)
class Plan:
    """What is to be quantized, and how."""

    run: FinishedRun
    checkpoint: Path
    config: Config
    """The new run's."""


def plan(source: Source, texts: Sequence[str]) -> Plan:
    """Read the command line and the run. Nothing is written.

    Args:
        source: From :func:`bitladder.cli.compose.open_source`.
        texts: ``key=value``, as on the command line.

    Raises:
        UserError: If an argument is wrong or the run cannot be used.
    """
    parameters = inspect.signature(Quantization).parameters
    known = {"data", "quantization", "paths.runs", *(f"quantization.{x}" for x in parameters)}
    options, overrides = read_options(QuantizeOptions, texts, known)
    run = FinishedRun.open(
        options.run,
        allow_unfinished=options.allow_unfinished,
        trust_links=options.trust_links,
    )
    directory = run.directory
    checkpoint = run.checkpoint(
        options.checkpoint, directory.best_checkpoint, directory.last_checkpoint
    )
    data = [text for text in overrides if text.lstrip("+~").startswith("data")]
    # No experiment: what one changes is for its own training.
    chosen = ["quantization=ptq", "experiment=null"]
    composed = compose(source, chosen + [text for text in overrides if text not in data])
    quantization = composed["quantization"]
    if quantization["method"] == "none":
        raise UserError("quantization=none leaves nothing to do: write quantization=ptq|dynamic")
    if quantization["method"] == "qat":
        raise UserError(
            "quantization=qat needs a training: write bitladder train quantization=qat"
            f" checkpoint={checkpoint}, or quantization=ptq|dynamic here"
        )
    replaced = {
        "quantization": quantization,
        "paths": composed["paths"],
        "checkpoint": str(checkpoint),
        "choices": _choices(run.values.get("choices"), composed["choices"]),
    }
    return Plan(run, checkpoint, reopen(run, allow=options.allow, data=data, replaced=replaced))


def _choices(before: object, now: dict[str, str]) -> dict[str, str]:
    """The run's choices, with those of quantization and paths as they are now."""

    def changed(group: str) -> bool:
        return group.partition("/")[0] in ("quantization", "paths")

    kept = before if isinstance(before, dict) else {}
    return {group: choice for group, choice in kept.items() if not changed(group)} | {
        group: choice for group, choice in now.items() if changed(group)
    }


def quantize(plan: Plan) -> int:
    """Quantize, measure, and tell.

    Returns:
        0. The last line printed is the new run's directory.

    Raises:
        UserError: If the checkpoint, the data or a pattern does not fit.
        RunError: If the conversion failed; the new run's ``results.json`` then says so.
    """
    quiet_libraries()
    config = plan.config
    L.seed_everything(config.seed, workers=True, verbose=False)
    data, task = data_and_task(config)
    load_weights(str(plan.checkpoint), task)
    parts = Parts(data, task, Fp32Precision(), make_quantization(config, task))
    directory = RunDirectory.create(Path(config.paths["runs"]), config.run_name)
    console = Console(soft_wrap=True)
    console.print(f"run directory: {directory.path}", highlight=False)
    if plan.run.edited:
        console.print(plan.run.edited, highlight=False)
    if plan.run.data_fingerprint not in (None, data.fingerprint()):
        console.print("the data are not those that the run was trained on", highlight=False)
    with logs_in(directory.log_of(0)), failure_recorded(config, directory):
        results = _quantize(plan, parts, directory, console)
    console.print(ladder_table(results))
    console.print(str(directory.path), highlight=False)
    return 0


def _quantize(plan: Plan, parts: Parts, directory: RunDirectory, console: Console) -> Results:
    config, run = plan.config, plan.run
    write_atomic(directory.config, config.to_yaml())
    effective_precision = run.results.effective_precision if run.results else {}
    manifest = collect(
        command=sys.argv,
        seed=config.seed,
        config=config.to_yaml(),
        data_fingerprint=parts.data.fingerprint(),
        precision=config.precision_name,
        effective_precision=effective_precision,
        project=conf_dir().parent,
    )
    manifest["source"] = {
        "run": str(run.directory.path),
        "checkpoint": plan.checkpoint.relative_to(run.directory.path).as_posix(),
        "checkpoint_sha256": sha256(plan.checkpoint),
    }
    write_json(directory.manifest, manifest)
    # With its weights the directory can be evaluated, or quantized again, without the other run.
    directory.checkpoints.mkdir()
    write_atomic(directory.last_checkpoint, plan.checkpoint.read_bytes())
    logger = CSVLogger(save_dir=str(directory.path), name="", version="")
    trainer = cpu_trainer(logger=logger, default_root_dir=str(directory.path))
    assert parts.quantization is not None
    console.print(f"quantizing {plan.checkpoint}", highlight=False)
    parts.quantization.after_training(trainer, parts.task, parts.data)
    write_quantization(parts.quantization, directory)
    console.print("measuring the rungs: compile, test, time")
    rungs = measure(parts, directory, parts.quantization.examples)
    log_rungs(rungs, trainer)
    results = results_of(config, directory, effective_precision, rungs)
    write_page(config, directory, results)
    results.write(directory.results)
    return results
