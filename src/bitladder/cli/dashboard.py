"""``bitladder dashboard``: TensorBoard on a run or a folder of runs."""

from pathlib import Path

from bitladder.cli.arguments import Parser
from bitladder.errors import UserError

SUMMARY = "Show a run, a sweep or any folder of runs in TensorBoard, on this machine alone."
USAGE = "PATH [port=PORT]"
DETAILS = """\
Prints the address, and how to see wandb's offline runs in the terminal. Ctrl-C ends it.

examples:
  bitladder dashboard runs
  bitladder dashboard sweeps/ladder port=6006
"""

LARGEST_PORT = 65535


def run(arguments: list[str]) -> int:
    """Serve until interrupted.

    Args:
        arguments: What follows ``dashboard`` on the command line.

    Returns:
        0.

    Raises:
        UserError: If there is nothing to show at the path, or the port is taken.
    """
    options = _parser().parse_args(arguments)
    port = _port(options.port)
    if not options.path.is_dir():
        what = "no folder" if options.path.exists() else "not there"
        raise UserError(f"{options.path} is {what}: write a run's folder, a sweep's, or runs")

    from bitladder.cli.tensorboard_server import serve

    return serve(options.path, port)


def _port(text: str | None) -> int:
    """The port that was written; 0, which stands for any free one, if none was."""
    if text is None:
        return 0
    key, equals, value = text.partition("=")
    if key != "port" or not equals:
        raise UserError(f"{text}: write port=PORT")
    if not value.isdecimal() or not 0 < int(value) <= LARGEST_PORT:
        raise UserError(f"{text}: write a port from 1 to {LARGEST_PORT}")
    return int(value)


def _parser() -> Parser:
    parser = Parser("dashboard", summary=SUMMARY, usage=USAGE, details=DETAILS)
    parser.add_argument("path", type=Path, metavar="PATH", help="a folder, searched at any depth")
    parser.add_argument("port", nargs="?", metavar="port=PORT", help="default: one that is free")
    return parser
