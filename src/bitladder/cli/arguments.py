"""Command-line parsing whose complaints are one line, like all others of the program."""

import argparse
from typing import NoReturn

from bitladder.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of printing its usage.

    Args:
        command: The command's name, as the user writes it.
        summary: What the command does, in a line.
        usage: What follows the command's name.
        details: What else the help says, laid out as it is to be printed.
    """

    def __init__(self, command: str, *, summary: str, usage: str, details: str = "") -> None:
        super().__init__(
            prog=f"bitladder {command}",
            usage=f"%(prog)s {usage}",
            description=summary,
            epilog=details,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Turn a complaint about the arguments into the program's kind.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message}; {self.prog} --help says what there is")
