"""Repeating a finished run in a directory of its own, and comparing the two."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from rich.console import Console

from bitladder.cli.assemble import assemble
from bitladder.cli.checkpoint import check_same_start, tensor_hashes
from bitladder.cli.configs import conf_dir
from bitladder.cli.finished import FinishedRun, inside
from bitladder.cli.logs import quiet_libraries
from bitladder.cli.options import ReproduceOptions, read_options
from bitladder.cli.overrides import parse
from bitladder.cli.ranks import lock, rank, shared_directory
from bitladder.cli.reopen import BUILT, reopen
from bitladder.cli.rules import check
from bitladder.cli.schema import Config
from bitladder.cli.threads import as_many_threads
from bitladder.cli.training import check_start, go_through
from bitladder.cli.trusted_parts import WRITERS, check_parts
from bitladder.errors import UserError
from bitladder.runs import RunDirectory, read_json, write_json
from bitladder.runs.reading import LARGEST_METRICS_BYTES, readable
from bitladder.runs.reproduction import Reproduction, compare
from bitladder.runs.trace import Trace, read_trace


@dataclass(frozen=True)
class Plan:
    """What is to be repeated."""

    run: FinishedRun
    manifest: dict[str, Any]
    trace: Trace
    """What it left."""
    config: Config
    """That of the repetition."""


def plan(path: str, texts: Sequence[str], allow: Sequence[str] = ()) -> Plan:
    """Read a run, without building anything of it. Nothing is written.

    Args:
        path: Its directory, as the user wrote it.
        texts: ``key=value``, as on the command line.
        allow: Packages that its configuration may name, beside those of ``allow=[...]``.

    Raises:
        UserError: If an argument is wrong or the run cannot be repeated.
    """
    texts = [f"run={path}", *texts]
    options, overrides = read_options(ReproduceOptions, texts, {"data", "paths.runs"})
    run = FinishedRun.open(options.run, allow_unfinished=True, trust_links=options.trust_links)
    if run.results is None:
        raise UserError(f"run={path} did not come to a good end: there is nothing to compare with")
    data = [text for text in overrides if not text.startswith("paths.")]
    config = reopen(
        run,
        allow=(allowed := [*options.allow, *allow]),
        data=data,
        replaced=_replaced(run, options.checkpoint, overrides),
        built=(*BUILT, *WRITERS),
    )
    check_parts(run.values, WRITERS, allowed)
    manifest = _manifest(run)
    if config.checkpoint is not None:
        check_same_start(config.checkpoint, manifest)
    return Plan(run, manifest, _trace(run.directory), config)


def reproduce(path: str, texts: Sequence[str], allow: Sequence[str] = ()) -> int:
    """Repeat a run, compare, write, and tell.

    Args:
        path: Its directory, as the user wrote it.
        texts: ``key=value``, as on the command line.
        allow: Packages that its configuration may name, beside those of ``allow=[...]``.

    Returns:
        0 if all is identical, else 1.

    Raises:
        UserError: If the run cannot be repeated here.
        RunError: If the repetition failed; its ``results.json`` then says so.
    """
    planned = plan(path, texts, allow)
    config = planned.config
    check(config)
    quiet_libraries()
    console = Console(soft_wrap=True, quiet=rank() > 0)
    with as_many_threads(planned.manifest, console):
        L.seed_everything(config.seed, workers=True, verbose=False)
        parts = assemble(config)
        if planned.run.data_fingerprint != parts.data.fingerprint():
            raise UserError(
                f"the data are not those that {path} was made with: write data.root=FOLDER, the one"
                " with the same data"
            )
        if config.checkpoint is not None:
            check_start(config.checkpoint, config, parts)
        with (
            shared_directory(Path(config.paths["runs"]), config.run_name) as directory,
            lock(directory),
        ):
            console.print(f"run directory: {directory.path}", highlight=False)
            go_through(config, parts, directory, console, start=config.checkpoint)
    if rank() > 0:
        return 0
    result = compare(
        planned.trace, _trace(directory), (planned.manifest, read_json(directory.manifest))
    )
    _write(planned, result, directory)
    for line in result.lines():
        console.print(line, highlight=False, markup=False)
    return 0 if result.identical else 1


def _replaced(
    run: FinishedRun, checkpoint: str | None, overrides: Sequence[str]
) -> dict[str, object]:
    """What of the configuration is not the run's: where it writes, what it logs to and reads."""
    folder = conf_dir()
    paths = yaml.safe_load((folder / "paths/default.yaml").read_text(encoding="utf-8"))
    for text in overrides:
        if text.startswith("paths.") and (override := parse(text)).key_or_group == "paths.runs":
            paths["runs"] = override.value()
    recorded = run.values.get("checkpoint")
    if recorded is not None and checkpoint is None:
        raise UserError(
            f"the run started from the checkpoint {recorded}, which is not in its directory: write"
            " checkpoint=FILE"
        )
    if recorded is None and checkpoint is not None:
        raise UserError(f"checkpoint={checkpoint}: the run started from none; leave it out")
    logger = yaml.safe_load((folder / "logger/csv.yaml").read_text(encoding="utf-8"))
    return {"paths": paths, "logger": logger, "checkpoint": checkpoint}


def _manifest(run: FinishedRun) -> dict[str, Any]:
    """The run's manifest, if it is the one of its configuration.

    Raises:
        UserError: If it is not, or if the run was no training.
    """
    directory = run.directory
    manifest = read_json(inside(directory, directory.manifest))
    if "source" in manifest:
        raise UserError(f"{directory.path} was made by bitladder quantize: run that again")
    config = hashlib.sha256(directory.config.read_bytes()).hexdigest()
    if manifest.get("config_sha256") != config or manifest.get("seed") != run.values.get("seed"):
        raise UserError(
            f"{directory.config} is not the configuration that {directory.manifest.name} is about:"
            " one of them was changed after the run"
        )
    return manifest


def _trace(directory: RunDirectory) -> Trace:
    """What a run left.

    Raises:
        UserError: If a file is damaged, larger than any run's or leads out of the directory, or if
            there is nothing.
    """
    for path in (
        *(directory.metrics, directory.results, directory.quantization),
        *(directory.predictions, directory.last_checkpoint),
    ):
        inside(directory, path)
    readable(directory, directory.metrics, LARGEST_METRICS_BYTES)
    last = directory.last_checkpoint
    trace = read_trace(directory, tensor_hashes(str(last)) if last.is_file() else {})
    if not trace.metrics and not any(trace.tensors.values()):
        raise UserError(f"{directory.path} holds nothing to compare with: no metrics, no weights")
    return trace


def _write(planned: Plan, result: Reproduction, directory: RunDirectory) -> None:
    source = planned.run.directory
    write_json(
        directory.reproduction,
        result.to_json()
        | {
            "run": os.path.relpath(source.path, directory.path),
            "config_sha256": planned.manifest["config_sha256"],
        },
    )
