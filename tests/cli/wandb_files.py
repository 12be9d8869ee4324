"""Reads what wandb wrote offline, for several files of tests."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any


@cache
def wandb_records(directory: Path) -> dict[str, list[Any]]:
    """The records of wandb's own files, oldest first, by kind, as wandb itself reads them."""
    records: dict[str, list[Any]] = {}
    for log in sorted(directory.glob("wandb/offline-run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for line in printed.splitlines():
            record = json.loads(line)
            records.setdefault(record["type"], []).append(record.get(record["type"]))
    return records
