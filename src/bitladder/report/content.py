"""What a page is made of, before it is HTML: plain texts, tables and figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import plotly.graph_objects as go


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        value: What it is sorted by, where that is a number; cells without sort last.
        href: Where it leads, relative to the page.
    """

    text: str
    value: float | None = None
    href: str | None = None


Content: TypeAlias = Cell | str | int | float | None
"""What may stand in a table; see :func:`as_cell`."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that can be sorted and filtered.

    Attributes:
        columns: The headings.
        rows: A cell a column.
        title: What stands above it.
        plain: Whether it is a list of facts, whose order is meant: not to be sorted.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Content]]
    title: str = ""
    plain: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page, in this order: title, text, tables, figures.

    Attributes:
        title: Its heading.
        text: How to read it; an empty line parts paragraphs.
        tables: Its tables.
        figures: Its figures; what a layout's ``title`` says stands in it when it is saved. Names
            that come from a run go through :func:`bitladder.report.style.plain`.
        folded: Whether it has to be opened to be seen.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[go.Figure] = ()
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole page.

    Attributes:
        title: Its heading, and the browser's.
        summary: A few sentences that can be quoted.
        sections: Its parts.
    """

    title: str
    summary: str
    sections: Sequence[Section]


def as_cell(content: Content) -> Cell:
    """A cell that shows a text, a number with four significant digits, or ``-`` for None."""
    match content:
        case Cell():
            return content
        case None:
            return Cell("-")
        case bool():
            return Cell("yes" if content else "no")
        case int():
            return Cell(str(content), float(content) if abs(content) < 2**1000 else None)
        case float():
            return number(content)
    return Cell(str(content))


def number(value: float | None, form: str = ".4g", unit: str = "") -> Cell:
    """A cell with a number, in a form of Python's; NaN and infinities by name, None as ``-``."""
    if value is None:
        return Cell("-")
    if math.isnan(value):
        return Cell("NaN")
    if math.isinf(value):
        return Cell("∞" if value > 0 else "-∞", value)
    return Cell(f"{value:{form}}{unit}", value)
