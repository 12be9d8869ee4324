"""The page about many runs: a sweep, or any folder of runs."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bitladder.report.assemble import sections
from bitladder.report.content import Page, Section
from bitladder.report.figures import (
    all_runs,
    fronts,
    jobs,
    layer_map,
    parallel,
    recipes,
    significance,
)
from bitladder.report.summary import folder_summary
from bitladder.runs import RunRecord

Records = Sequence[RunRecord]

FIGURES: dict[str, Callable[[Records], Section | None]] = {
    "Fronts": fronts.section,
    "Recipes": recipes.section,
    "Significance": significance.section,
    "Parallel coordinates": parallel.section,
    "Layers by recipe": layer_map.section,
}
"""What compares runs, between the table of all and those that failed: a section is a line here."""


def sweep_page(folder: Path, records: Records, output: Path) -> Page:
    """Return the page about the runs in a folder.

    Args:
        folder: Where they lie.
        records: The runs.
        output: The file that the page will be: its links lead from there.
    """
    asked = jobs.read_jobs(folder)
    counting = jobs.that_count(records, asked)
    made = [
        *sections({"All runs": partial(all_runs.section, folder=folder, output=output)}, records),
        *sections(FIGURES, counting),
        *sections({"Jobs": partial(jobs.section, folder=folder)}, asked),
        *sections({"Not completed": partial(all_runs.not_completed, folder=folder)}, records),
    ]
    name = folder.resolve().name
    return Page(
        title=f"Runs in {name}",
        summary=folder_summary(name, records),
        sections=made,
    )
