"""One HTML file that needs nothing else: opened from a disk, in any browser, in ten years."""

import html
import re
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from bitladder.report.content import Cell, Page, Section, Table, as_cell
from bitladder.report.style import templates

POLICY = (
    # plotly's parallel coordinates compile their shaders' bindings.
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
"""The browser itself keeps the page from fetching anything."""

FILTERED_ROWS = 8
"""From so many rows on, a table has a box to filter it."""


LONG_TEXT = 24
"""From more characters on, a cell gets room for a line of them before it breaks."""


def render(page: Page) -> str:
    """Return the page as HTML, with its style and scripts in it; plotly's once, if at all.

    Every text of the page is escaped: none is taken for markup.
    """
    names = {f"s{index}": section for index, section in enumerate(page.sections)}
    links = "".join(f'<a href="#{name}">{_text(s.title)}</a>' for name, s in names.items())
    sections = "\n".join(_section(section, name) for name, section in names.items())
    has_figures = any(section.figures for section in page.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="bitladder">
<title>{_text(page.title)}</title>
<link rel="icon" href="data:,">
<style>{_resource("page.css")}</style>
<script>{_resource("theme.js")}</script>
</head>
<body>
<header>
<button type="button" id="theme" aria-label="light or dark"></button>
<h1>{_text(page.title)}</h1>
<div class="summary">{_paragraphs(page.summary)}</div>
<nav>{links}</nav>
</header>
<main>
{sections}
</main>
<footer>bitladder, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC</footer>
<script type="application/json" id="templates">{_json(templates())}</script>
{f"<script>{get_plotlyjs()}</script>" if has_figures else ""}
<script>{_resource("page.js")}</script>
</body>
</html>
"""


def _section(section: Section, name: str) -> str:
    body = "\n".join(
        [
            _paragraphs(section.text),
            *map(_table, section.tables),
            '<div class="figures">',
            *map(_figure, section.figures),
            "</div>",
        ]
    )
    if section.folded:
        heading = f"<summary><h2>{_text(section.title)}</h2></summary>"
        return f'<section id="{name}"><details>{heading}\n{body}</details></section>'
    return f'<section id="{name}"><h2>{_text(section.title)}</h2>\n{body}</section>'


def _table(table: Table) -> str:
    rows = [[as_cell(content) for content in row] for row in table.rows]
    numeric = [_is_numeric([row[i] for row in rows]) for i in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_class("number" if n else "")}>'
        + (_text(column) if table.plain else f'<button type="button">{_text(column)}</button>')
        + "</th>"
        for column, n in zip(table.columns, numeric, strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(_cell(cell, n) for cell, n in zip(row, numeric, strict=True)) + "</tr>"
        for row in rows
    )
    title = f"<h3>{_text(table.title)}</h3>" if table.title else ""
    filtered = not table.plain and len(rows) >= FILTERED_ROWS
    box = '<input type="search" placeholder="filter" aria-label="filter the table">'
    return f"""<div class="table">{title}{box if filtered else ""}
<div class="scroll"><table{_class("facts" if table.plain else "sortable")}>
{f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""}
<tbody>
{body}
</tbody></table></div></div>"""


def _cell(cell: Cell, numeric: bool) -> str:
    text = _text(cell.text)
    if cell.href is not None:
        text = f'<a href="{_text(quote(cell.href))}">{text}</a>'
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    kind = "number" if numeric else "long" if len(cell.text) > LONG_TEXT else ""
    return f"<td{_class(kind)}{value}>{text}</td>"


def _is_numeric(cells: list[Cell]) -> bool:
    return any(cell.value is not None for cell in cells)


def _figure(figure: go.Figure) -> str:
    parts: dict[str, Any] = figure.to_plotly_json()
    # The page's own, of the theme that it is seen in, takes its place.
    parts["layout"].pop("template", None)
    # Shown as a caption, which breaks into lines on a phone; a saved picture has it in itself.
    title = parts["layout"].get("title", {}).get("text", "")
    caption = html.unescape(re.sub(r"<[^>]*>", " ", title))
    height = parts["layout"].get("height", 400)
    return f"""<figure>
<figcaption>{_text(caption)}</figcaption>
<div class="plot" role="img" aria-label="{_text(caption)}" style="height:{height:.0f}px"></div>
<script type="application/json">{_json(parts)}</script>
</figure>"""


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{_text(part)}</p>" for part in re.split(r"\n\s*\n", text) if part.strip())


def _text(text: str) -> str:
    # What UTF-8 has no form for, such as half a surrogate pair in a file's name, is shown as "?".
    return html.escape(text.encode("utf-8", "replace").decode())


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _json(value: object) -> str:
    """JSON that stands in a script element: plotly writes ``<`` as an escape, so none ends it."""
    return str(to_json_plotly(value))


@cache
def _resource(name: str) -> str:
    return files("bitladder.report").joinpath(name).read_text(encoding="utf-8")
