"""One evaluation: the rungs of a finished run, from its files to a table and a file."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import lightning as L
from rich.console import Console
from torch import nn

from bitladder.archives import archive_damage
from bitladder.callbacks.calibration import COMPARED_BATCHES, muted, run_step
from bitladder.callbacks.target import find_target
from bitladder.cli.assemble import data_and_task
from bitladder.cli.checkpoint import load_weights
from bitladder.cli.finished import FinishedRun, inside
from bitladder.cli.logs import quiet_libraries
from bitladder.cli.options import EvaluateOptions, read_options
from bitladder.cli.reopen import reopen
from bitladder.cli.rungs import Model, measure_models
from bitladder.cli.schema import Config
from bitladder.data.base import ImageDataModule
from bitladder.errors import RunError, UserError
from bitladder.quantization import Call, export, float_copy
from bitladder.quantization.compile import load_package
from bitladder.quantization.trees import on_cpu
from bitladder.quantization.watch import capture_calls
from bitladder.runs import Rung, comparison_table, sha256, write_json
from bitladder.runs.comparison import accuracy_change
from bitladder.runs.hardware import describe
from bitladder.runs.manifest import package_versions

SCHEMA_VERSION = 1

ROUNDING = 1e-6
"""Accuracies that are less apart are equal; one answer of a million would show."""


@dataclass
class _Artifacts:
    """The shipped files of a run's reduced rungs."""

    models: dict[str, Model] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a rung is not measured."""
    changed: list[str] = field(default_factory=list)
    """The rungs whose file is not the one that the run wrote, or does not load."""


def evaluate(texts: Sequence[str]) -> int:
    """Measure, compare, write, and tell.

    Args:
        texts: ``key=value``, as on the command line.

    Returns:
        0. The last line printed is the file that was written.

    Raises:
        UserError: If an argument is wrong or the run cannot be used.
        RunError: If the model cannot be measured or, with ``strict``, is not as recorded.
    """
    options, overrides = read_options(EvaluateOptions, texts, {"data"})
    run = FinishedRun.open(
        options.run,
        allow_unfinished=options.allow_unfinished,
        trust_links=options.trust_links,
    )
    directory = run.directory
    checkpoint = run.checkpoint(
        options.checkpoint, directory.last_checkpoint, directory.best_checkpoint
    )
    config = reopen(run, allow=options.allow, data=overrides)
    output = _writable(directory.evaluation if options.output is None else Path(options.output))
    quiet_libraries()
    console = Console(soft_wrap=True)
    L.seed_everything(config.seed, workers=True, verbose=False)
    data, task = data_and_task(config)
    load_weights(str(checkpoint), task)
    console.print(f"measuring {checkpoint}: compile, test, time", highlight=False)
    artifacts = _artifacts(run, trusted=options.trust_artifact)
    rungs = _measure(config, task, data, artifacts)
    recorded = run.results.rungs if run.results else {}
    same_data = run.data_fingerprint in (None, data.fingerprint())
    write_json(
        output,
        {
            "schema_version": SCHEMA_VERSION,
            "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": sha256(checkpoint),
            "data_fingerprint": data.fingerprint(),
            "same_data": same_data,
            "rungs": {name: asdict(rung) for name, rung in rungs.items()},
            "not_measured": artifacts.missing,
            "recorded": {name: asdict(rung) for name, rung in recorded.items()},
            "packages": package_versions(),
            "hardware": describe(),
        },
    )
    title = f"{config.name}: {config.precision_name}, {config.quantization_name}, {checkpoint.name}"
    console.print(comparison_table(title, rungs, recorded, artifacts.sizes))
    for name, reason in artifacts.missing.items():
        console.print(f"{name}: not measured: {reason}", highlight=False, markup=False)
    if run.edited:
        console.print(run.edited, highlight=False)
    if not same_data:
        console.print("the data are not those that the run was trained on", highlight=False)
    changes = _changes(rungs, recorded)
    for line in changes:
        console.print(line, highlight=False, markup=False)
    console.print(str(output), highlight=False, markup=False)
    changes += [f"{name}: {artifacts.missing[name]}" for name in artifacts.changed]
    if changes and options.strict:
        raise RunError("; ".join(changes))
    return 0


def _writable(output: Path) -> Path:
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK) or output.is_dir():
        raise UserError(f"{output} cannot be written: write output=FILE, a file elsewhere")
    return output


def _artifacts(run: FinishedRun, *, trusted: bool) -> _Artifacts:
    """Load what the run shipped, if that may be."""
    found = _Artifacts()
    hashes = run.artifact_hashes
    for name, rung in (run.results.rungs if run.results else {}).items():
        if name == "float":
            continue
        path = inside(run.directory, run.directory.path / (rung.artifact or ""))
        if not path.is_file():
            found.missing[name] = f"there is no {rung.artifact or 'artifact'}"
            continue
        found.sizes[name] = path.stat().st_size
        if path.name in hashes and sha256(path) != hashes[path.name]:
            found.missing[name] = f"{path.name} was changed: the run recorded another sha256"
            found.changed.append(name)
            continue
        if not trusted:
            found.missing[name] = (
                f"{path.name} is native code and comes with the run; write trust_artifact=true if"
                " you trust whoever wrote the run directory"
            )
            continue
        try:
            if damage := archive_damage(path):  # looked at first: loading executes it
                raise RuntimeError(damage)
            found.models[name] = Model(path, load_package(path), shipped=True)
        except (RuntimeError, OSError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            found.missing[name] = f"{path.name} cannot be loaded: {reason}"
            found.changed.append(name)
    return found


def _measure(
    config: Config, task: L.LightningModule, data: ImageDataModule, artifacts: _Artifacts
) -> dict[str, Rung]:
    quantized = config.quantization.get("method") != "none"
    target = find_target(task, config.quantization.get("target") if quantized else "net")
    examples = _examples(task, target, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model_float.pt2"
        compiled = Model(path, export(float_copy(target), examples, path), shipped=False)
        models = {"float": compiled} | artifacts.models
        rungs, _ = measure_models(models, examples[0], target, task, data)
    return rungs


def _examples(task: L.LightningModule, target: nn.Module, data: ImageDataModule) -> list[Call]:
    """Arguments of a few real calls of the model."""
    task.eval()
    with muted(task), capture_calls(target) as calls:
        for index, batch in enumerate(islice(data.calibration_dataloader(), COMPARED_BATCHES)):
            run_step(task, batch, index)
    if not calls:
        raise UserError(f"the task never calls its {type(target).__name__}, which was measured")
    return [Call(on_cpu(call.args), on_cpu(call.kwargs)) for call in calls]


def _changes(rungs: dict[str, Rung], recorded: dict[str, Rung]) -> list[str]:
    """A line for every rung whose accuracy is not the recorded one."""
    lines = []
    for name in rungs.keys() & recorded.keys():
        change = accuracy_change(rungs[name], recorded[name])
        if change is not None and not abs(change) <= ROUNDING:
            lines.append(f"{name}: the accuracy is {change:+.6f} against what the run recorded")
    return sorted(lines)
