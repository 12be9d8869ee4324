"""The page about one run, however far it came."""

from collections.abc import Callable
from typing import TypeAlias

from bitladder.report.content import Page, Section
from bitladder.report.figures import (
    confusion,
    curves,
    layers,
    numerics,
    origin,
    precision,
    rungs,
)
from bitladder.report.summary import run_summary
from bitladder.runs import RunRecord

Maker: TypeAlias = Callable[[RunRecord], Section | None]

SECTIONS: dict[str, Maker] = {
    "The rungs": rungs.section,
    "What ran": origin.section,
    "Learning curves": curves.section,
    "Precision in training": precision.section,
    "Numerics": numerics.section,
    "Layers": layers.section,
    "Float against int8": confusion.section,
    "Configuration": origin.configuration,
}
"""The sections of a run's page, in their order: a new one is a function and a line here. Each gives
None where the run has nothing for it."""


def run_page(record: RunRecord) -> Page:
    """Return the page about a run."""
    found = (made(title, maker, record) for title, maker in SECTIONS.items())
    return Page(
        title=f"{record.experiment or 'Run'}: {record.name}",
        summary=run_summary(record),
        sections=[section for section in found if section is not None],
    )


def made(title: str, maker: Maker, record: RunRecord) -> Section | None:
    """Make one section. What a directory holds is anybody's: what cannot be shown is said."""
    try:
        return maker(record)
    except Exception as error:  # one odd value must not take the rest of the page with it
        reason = f"{type(error).__name__}: {error}"
        return Section(title=title, text=f"This part cannot be shown ({reason}).")
