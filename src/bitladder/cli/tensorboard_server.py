"""TensorBoard in this process: nothing is left behind when it ends."""

import logging
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

from bitladder.errors import UserError

HOST = "127.0.0.1"
EVENTS = "events.out.tfevents."
"""What the names of TensorBoard's files begin with."""


def serve(path: Path, port: int) -> int:
    """Show a folder until interrupted.

    Args:
        path: A run's folder, or any above.
        port: Where to listen, on loopback; 0 for any free port.

    Returns:
        0, when it was interrupted.

    Raises:
        UserError: If no run in the folder has event files, or the port is taken.
    """
    records = sum(1 for _ in folders_with(path, EVENTS))
    if records == 0:
        raise UserError(
            f"{path} holds nothing of TensorBoard's: train with logger=default, or with"
            " logger=[csv,tensorboard]"
        )
    print(f"{launch(path, port)}  ({records} run{'s' * (records > 1)}; Ctrl-C ends it)", flush=True)
    for line in leet_lines(path):
        print(line, flush=True)
    # A shell starts what is in the background with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        print()
        return 0


def launch(path: Path, port: int) -> str:
    """Start TensorBoard in a thread that ends with the process.

    Returns:
        Its address.

    Raises:
        UserError: If the port is taken.
    """
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from tensorboard import program

    board = program.TensorBoard()
    # The fast loader would be a process of its own.
    given = ["--logdir", str(path), "--host", HOST, "--port", str(port), "--load_fast", "false"]
    board.configure(["tensorboard", *given])
    try:
        return board.launch()
    except program.TensorBoardServerException as error:
        raise UserError(f"port={port}: {error}; leave port out for a free one") from error


def leet_lines(path: Path) -> list[str]:
    """How to see wandb's offline runs below a folder in the terminal, without its website."""
    found = sorted(folders_with(path, "offline-run-"), key=os.path.getmtime)
    if not found:
        return []
    # It shows the runs of one wandb/ folder, and every run of ours has its own.
    more = f"  (the latest of {len(found)}: each run has its own)" if len(found) > 1 else ""
    return [f"wandb in the terminal: wandb leet {shlex.quote(str(found[-1]))}{more}"]


def folders_with(path: Path, beginning: str) -> Iterator[Path]:
    """The folders below, and the folder itself, in which a name begins so."""
    for folder, folders, files in os.walk(path):
        if any(name.startswith(beginning) for name in (*folders, *files)):
            yield Path(folder)
