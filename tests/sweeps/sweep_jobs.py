"""What the jobs of the tests do, in processes of their own."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bitladder.runs import Results, RunDirectory

Tell = Callable[[str], None]


def run(overrides: list[str], folder: str, unfinished: str | None, tell: Tell) -> int:
    """``do=...`` says what; every start is noted in the folder."""
    values: dict[str, str] = dict(text.lstrip("+").split("=", 1) for text in overrides)
    what = values.get("do", "ok")
    with (Path(folder) / "starts").open("a") as file:
        file.write(f"{what}\n")
    if what == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    directory = RunDirectory.create(Path(folder), f"run-{what}")
    tell(directory.path.name)
    print(f"this is {what}, after {unfinished}")
    if what == "raise":
        raise ValueError("a fault of ours")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "worker":
        print(multiprocessing.get_start_method())
    if what == "sleep":
        time.sleep(600)
    if what == "once" and not (Path(folder) / "again").exists():
        (Path(folder) / "again").touch()
        _write(directory, "failed", reason="only once")
        return 1
    if what == "hopeless":
        _write(directory, "failed", reason="worse than the others")
        return 3
    _write(directory, "failed" if what == "fail" else "completed", reason="NaN at step 3")
    return 1 if what == "fail" else 0


def _write(directory: RunDirectory, status: Any, reason: str) -> None:
    Results(
        status=status,
        experiment="digits",
        precision="fp32",
        quantization="none",
        seed=1,
        reason=None if status == "completed" else reason,
    ).write(directory.results)
