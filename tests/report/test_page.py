import json
import re

import plotly.graph_objects as go
import pytest

from bitladder.report.content import Cell, Page, Section, Table
from bitladder.report.page import FILTERED_ROWS, render
from bitladder.report.style import plain, templates

HOSTILE = "<script>alert(1)</script>&amp;\"'\u2028</title>"


def page(*sections: Section) -> str:
    return render(Page(title="A run", summary="One.\n\nTwo.", sections=sections))


def scripts_of(html: str) -> list[str]:
    return re.findall(r"<script type=\"application/json\"[^>]*>(.*?)</script>", html, re.DOTALL)


def test_nothing_of_the_page_lies_elsewhere() -> None:
    html = page(Section(title="s", figures=[go.Figure(go.Scatter(y=[1, 2]))]))
    elements = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert set(re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"([^\"]*)", elements)) == {
        "data:,"
    }
    assert "default-src 'none'" in html


def test_plotly_is_there_once_however_many_figures_and_not_without_any() -> None:
    figure = go.Figure(go.Scatter(y=[1, 2]))
    assert page(Section(title="s", figures=[figure, figure])).count("plotly.js v") == 1
    assert "plotly.js v" not in page(Section(title="s"))


@pytest.mark.parametrize("place", ["title", "text", "heading", "cell", "link", "figure"])
def test_every_text_is_escaped(place: str) -> None:
    texts = dict.fromkeys(["title", "text", "heading", "cell", "link", "figure"], "x")
    texts[place] = HOSTILE
    figure = go.Figure(go.Scatter(y=[1], name=texts["figure"]))
    figure.update_layout(title=texts["figure"])
    table = Table(columns=[texts["heading"]], rows=[[Cell(texts["cell"], href=texts["link"])]])
    section = Section(title=texts["title"], text=texts["text"], tables=[table], figures=[figure])
    html = render(Page(title=texts["title"], summary=texts["text"], sections=[section]))
    assert "<script>alert" not in html
    assert html.partition("<style>")[0].count("</title>") == 1
    for script in scripts_of(html):
        json.loads(script)


def test_texts_that_utf_8_cannot_hold_do_not_stop_the_page() -> None:
    html = page(Section(title="half a \udcff name"))
    html.encode()
    assert "half a ? name" in html


def test_numbers_carry_what_they_sort_by() -> None:
    table = Table(columns=["a", "b"], rows=[[0.001, "x"], [float("nan"), "y"], [10.0, None]])
    html = page(Section(title="s", tables=[table]))
    assert '<td class="number" data-value="0.001">0.001</td>' in html
    assert '<td class="number">NaN</td>' in html
    assert "<td>y</td>" in html


def test_long_tables_can_be_filtered_and_lists_of_facts_cannot_be_sorted() -> None:
    rows = [[index] for index in range(FILTERED_ROWS)]

    def body(table: Table) -> str:
        html = page(Section(title="s", tables=[table]))
        return html.partition("<main>")[2].partition("</main>")[0]

    assert 'type="search"' in body(Table(columns=["a"], rows=rows))
    assert 'type="search"' not in body(Table(columns=["a"], rows=rows[1:]))
    facts = body(Table(columns=["a"], rows=rows, plain=True))
    assert 'type="search"' not in facts
    assert "sortable" not in facts


def test_figures_take_the_template_of_the_page() -> None:
    html = page(Section(title="s", figures=[go.Figure(go.Scatter(y=[1.0, float("nan")]))]))
    figure, shared = (json.loads(script) for script in scripts_of(html))
    assert "template" not in figure["layout"]
    assert set(shared) == {"light", "dark"}
    for template in templates().values():
        go.Figure(layout={"template": template})  # plotly checks every key


def test_plain_keeps_plotly_from_reading_markup() -> None:
    assert plain("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"
