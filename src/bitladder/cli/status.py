"""From how an action ended to an exit status and the line that says why."""

import sys
from collections.abc import Callable

from bitladder.errors import RunError, UserError


def exit_status(action: Callable[[], int]) -> int:
    """Do something and give its exit status: its own, 1 if the run failed, 2 if it cannot be.

    Only the two errors that are meant for users become a line on stderr; any other is a fault of
    ours and keeps its traceback.
    """
    try:
        return action()
    except UserError as error:
        print(f"bitladder: error: {_printable(error)}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"bitladder: the run failed: {_printable(error)}", file=sys.stderr)
        return 1


def _printable(error: Exception) -> str:
    """The message, which may quote a foreign file: no character that a terminal would obey."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(error))
