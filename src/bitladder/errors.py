"""The ways in which a command ends badly."""


class UserError(Exception):
    """The user asked for something that cannot be: exit status 2.

    The message is one line that says what is wrong, where, and what to write instead.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class RunError(Exception):
    """The run itself failed (a loss that is NaN, a conversion without int8 kernels): exit status 1.

    The message is one line that says what happened, at which step or in which layer.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class HopelessError(RunError):
    """The run was given up because others were better, as its configuration asked."""


class Interrupted(KeyboardInterrupt):
    """The user, or whoever manages the machine, asked the run to end: exit status 128 + signal.

    Args:
        signal: The number of the signal that said so.
        hint: What to tell the user beside it, in one line.
    """

    def __init__(self, signal: int, hint: str = "") -> None:
        super().__init__(f"interrupted{hint and '; '}{hint}")
        self.signal = signal


class RankZeroError(RunError):
    """Rank 0 failed with this message, and says so itself; raised on the ranks that waited."""
