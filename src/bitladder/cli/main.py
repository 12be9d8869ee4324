"""The console script: finds the command and hands it the arguments."""

import importlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from bitladder.cli.status import exit_status
from bitladder.cli.suggest import hint
from bitladder.errors import Interrupted, UserError


@dataclass(frozen=True)
class Command:
    """A command: the module whose ``run(arguments) -> int`` does it, and a line about it.

    Importing the module must stay cheap: it imports torch and Hydra inside ``run``, after it has
    parsed its arguments, so that ``--help`` answers at once.
    """

    module: str
    summary: str


COMMANDS = {
    "train": Command(
        "bitladder.cli.train", "train, quantize and measure one experiment, or a sweep"
    ),
    "quantize": Command(
        "bitladder.cli.quantize", "int8 from a finished run's checkpoint, without training"
    ),
    "evaluate": Command(
        "bitladder.cli.evaluate", "measure a finished run again, from what is on disk"
    ),
    "dashboard": Command("bitladder.cli.dashboard", "show runs or a sweep in TensorBoard"),
    "resume": Command("bitladder.cli.resume", "go on with a run that was killed or interrupted"),
    "reproduce": Command(
        "bitladder.cli.reproduce", "run a finished run again, and compare bit by bit"
    ),
    "predict": Command("bitladder.cli.predict", "run an artifact on an array of NumPy's"),
    "report": Command("bitladder.cli.report", "a run or a folder of runs as one page of HTML"),
    "formats": Command("bitladder.cli.formats", "show a number in every floating-point format"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows ``bitladder`` on the command line; by default the process's own.

    Returns:
        The exit status: 0 done, 1 the run failed, 2 the user asked for what cannot be, 130 if
        interrupted by Ctrl-C and 143 by SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return exit_status(lambda: _dispatch(given))
    except KeyboardInterrupt as error:
        print(f"bitladder: {str(error) or 'interrupted'}", file=sys.stderr)
        return 128 + (error.signal if isinstance(error, Interrupted) else signal.SIGINT)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    name, *rest = arguments
    if name == "--version":
        print(f"bitladder {_version()}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise UserError(f"there is no {kind} {name}{hint(name, COMMANDS)}")
    return importlib.import_module(COMMANDS[name].module).run(rest)


def _usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: bitladder COMMAND [arguments]",
            "       bitladder COMMAND --help",
            "       bitladder --version",
            "",
            "commands:",
            *lines,
        ]
    )


def _version() -> str:
    try:
        return version("bitladder")
    except PackageNotFoundError:
        return "(not installed)"
