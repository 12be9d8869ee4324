"""The page about one run, however far it came."""

from collections.abc import Callable

from bitladder.report.assemble import sections
from bitladder.report.content import Page, Section
from bitladder.report.figures import (
    confusion,
    curves,
    histograms,
    layers,
    numerics,
    origin,
    overlap,
    pictures,
    precision,
    rungs,
)
from bitladder.report.summary import run_summary
from bitladder.runs import RunRecord

SECTIONS: dict[str, Callable[[RunRecord], Section | None]] = {
    "The rungs": rungs.section,
    "What ran": origin.section,
    "Learning curves": curves.section,
    "Precision in training": precision.section,
    "Numerics": numerics.section,
    "Layers": layers.section,
    "Histograms": histograms.section,
    "Float against int8": confusion.section,
    "Pictures": pictures.section,
    "The same errors?": overlap.section,
    "Configuration": origin.configuration,
}
"""The sections of a run's page, in their order: a new one is a function and a line here."""


def run_page(record: RunRecord) -> Page:
    """Return the page about a run."""
    return Page(
        title=record.name,
        summary=run_summary(record),
        sections=sections(SECTIONS, record),
    )
