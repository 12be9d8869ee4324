"""Name patterns (`fnmatch`), by which users choose parts of a model."""

from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from bitladder.errors import UserError


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` matches `name`, case and all."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def require_matches(key: str, patterns: Iterable[str], names: Iterable[str], kind: str) -> None:
    """Refuse patterns that match nothing: they are misspelled, and would be without effect.

    Args:
        key: Where the patterns stand, such as `quantization.skip`.
        patterns: The patterns.
        names: The names that there are.
        kind: What they are names of, such as `layer`.

    Raises:
        UserError: A pattern matches none of `names`; proposes the nearest.
    """
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"{key}: {pattern!r} matches no {kind}{nearest(pattern, names)}")


def nearest(wrong: str, names: Iterable[str]) -> str:
    """The end of an error line that proposes the name most like `wrong`; empty without names."""
    close = get_close_matches(wrong, list(names), n=1, cutoff=0.0)
    return f"; did you mean {close[0]!r}?" if close else ""
