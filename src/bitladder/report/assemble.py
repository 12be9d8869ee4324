"""Sections from functions that make them, each on its own."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from bitladder.report.content import Section

Subject = TypeVar("Subject")


def sections(
    makers: Mapping[str, Callable[[Subject], Section | None]], subject: Subject
) -> list[Section]:
    """Make every section of a page.

    What a run directory holds is anybody's. A section that cannot be made of it says so in its
    place, and the others are there.

    Args:
        makers: By title; one gives None where there is nothing for it.
        subject: What they are about.
    """
    made = (_made(title, maker, subject) for title, maker in makers.items())
    return [section for section in made if section is not None]


def _made(
    title: str, maker: Callable[[Subject], Section | None], subject: Subject
) -> Section | None:
    try:
        return maker(subject)
    except Exception as error:  # any: one odd value must not take the rest of the page with it
        reason = f"{type(error).__name__}: {error}"
        return Section(title=title, text=f"This part cannot be shown ({reason}).")
