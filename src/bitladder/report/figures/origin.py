"""What ran: where every number of the page comes from."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from bitladder.report.content import Content, Section, Table
from bitladder.runs import RunRecord
from bitladder.runs.reading import lookup


def section(record: RunRecord) -> Section:
    """The facts that explain a difference between two runs."""
    rows = [(name, fact) for name, fact in facts(record).items() if fact not in (None, "")]
    return Section(title="What ran", tables=[Table(columns=["", ""], rows=rows, plain=True)])


def configuration(record: RunRecord) -> Section | None:
    """Every key of the configuration, resolved, to be searched."""
    rows = list(_flat(record.config, ""))
    if not rows:
        return None
    table = Table(columns=["key", "value"], rows=rows)
    return Section(title="Configuration", tables=[table], folded=True)


def facts(record: RunRecord) -> dict[str, Content]:
    """What the run was, by name; None where nothing says it."""
    manifest = record.manifest
    effective = record.results.effective_precision if record.results else {}
    effective = effective or lookup(manifest, "precision", "effective")
    hardware = lookup(manifest, "hardware")
    return {
        "directory": record.name,
        "state": record.state,
        "experiment": record.experiment,
        "model": _text(lookup(record.config, "choices", "model")),
        "data": _text(lookup(record.config, "choices", "data")),
        "precision, requested": record.precision_name,
        "precision, effective": _pairs(effective),
        "quantization": record.quantization_name,
        "observer": _text(lookup(record.config, "choices", "quantization/observer")),
        "seed": _text(record.seed),
        "started": _text(lookup(manifest, "started")),
        "command": _command(lookup(manifest, "command")),
        "git commit": _commit(lookup(manifest, "git")),
        "packages": _pairs(lookup(manifest, "packages")),
        "Python": _text(lookup(manifest, "python")),
        "platform": _text(lookup(manifest, "platform")),
        "processor": _processor(hardware),
        "GPUs": _gpus(lookup(hardware, "cuda")),
        "data fingerprint": _text(lookup(manifest, "data_fingerprint")),
        "configuration's SHA-256": _text(lookup(manifest, "config_sha256")),
        "lock file's SHA-256": _text(lookup(manifest, "lock_sha256")),
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _pairs(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return None
    return ", ".join(f"{key} {item}" for key, item in value.items())


def _command(value: object) -> str | None:
    return shlex.join(map(str, value)) if isinstance(value, list) else None


def _commit(git: object) -> str | None:
    if (commit := lookup(git, "commit")) is None:
        return None
    return f"{commit}{', with changes' if lookup(git, 'dirty') else ''}"


def _processor(hardware: object) -> str | None:
    if not isinstance(hardware, Mapping):
        return None
    flags = hardware.get("flags")
    flags = f"; {', '.join(map(str, flags))}" if isinstance(flags, list) and flags else ""
    cores, threads = hardware.get("usable_cores"), hardware.get("threads")
    return f"{hardware.get('cpu')}, {cores} cores, {threads} threads{flags}"


def _gpus(devices: object) -> str | None:
    if not isinstance(devices, list):
        return None
    names = [f"{lookup(gpu, 'name')} ({lookup(gpu, 'capability')})" for gpu in devices]
    return ", ".join(names) or "none"


def _flat(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{where}.{key}".lstrip("."))
    elif where:
        yield where, str(value)
