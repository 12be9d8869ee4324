"""From how an action ended to an exit status and the line that says why."""

import sys
from collections.abc import Callable

from bitladder.errors import RunError, UserError
from bitladder.foreign_text import printable


def exit_status(action: Callable[[], int]) -> int:
    """Do something and give its exit status: its own, 1 if the run failed, 2 if it cannot be.

    Only the two errors that are meant for users become a line on stderr; any other is a fault of
    ours and keeps its traceback.
    """
    try:
        return action()
    except UserError as error:
        print(f"bitladder: error: {printable(str(error))}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"bitladder: the run failed: {printable(str(error))}", file=sys.stderr)
        return 1
