"""What to say when a name is not one of those that exist."""

import difflib
from collections.abc import Iterable

FEW = 16
"""A list of up to this many names is shown whole."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, if one is near enough."""
    matches = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return matches[0] if matches else None


def hint(name: str, names: Iterable[str], prefix: str = "") -> str:
    """The end of a message about an unknown name: the nearest right one, and all if they are few.

    Args:
        name: What the user wrote.
        names: What could be written.
        prefix: What stands before the name on the command line (``model=``).

    Returns:
        Text that starts with ``;`` or a space, or nothing.
    """
    names = sorted(names)
    best = nearest(name, names)
    meant = f"; did you mean {prefix}{best}?" if best else ""
    listed = f" ({', '.join(names)})" if 0 < len(names) <= FEW else ""
    return meant + listed
