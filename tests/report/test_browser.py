"""The pages in a real browser: what no test of their text can see."""

import importlib.util
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bitladder.report.write import write_run_report, write_sweep_report
from bitladder.runs import RunRecord

Make = Callable[..., RunRecord]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">-s1"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt: chromium)"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="playwright is not installed"
    ),
]


@dataclass
class Opened:
    """A page and everything that it said or asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a file from the disk: visit(path, viewport=..., color_scheme=...)."""
    contexts = []

    def opened(path: Path, **options: Any) -> Opened:
        contexts.append(browser.new_context(**options))
        visited = Opened(contexts[-1].new_page())
        visited.page.on("console", lambda message: visited.said.append(message.text))
        visited.page.on("pageerror", lambda error: visited.said.append(str(error)))
        visited.page.on("request", lambda request: visited.asked.append(request.url))
        visited.page.goto(path.resolve().as_uri())
        return visited

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def run_page(run: Make) -> Path:
    return write_run_report(run(steps=10_000))


@pytest.fixture
def sweep_page(run: Make, tmp_path: Path) -> Path:
    accuracies = [0.5, 0.875, float("nan"), 0.75, 0.0625, 1.0, 0.25]
    records = [run(f"run {i}", seed=i, accuracy=a) for i, a in enumerate(accuracies)]
    records += [run(HOSTILE.replace("/", "")), run("unfinished", results=False)]
    return write_sweep_report(tmp_path / "runs", records)


def column(page: Any, name: str) -> list[str]:
    """The shown texts of the first table's column."""
    return page.evaluate(
        """name => {
          const table = document.querySelector("table.sortable");
          const at = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === name);
          return [...table.tBodies[0].rows].filter((r) => !r.hidden)
            .map((r) => r.cells[at].textContent);
        }""",
        name,
    )


def test_a_page_opens_from_a_disk_without_a_complaint_or_a_request(
    visit: Callable[..., Opened], run_page: Path, sweep_page: Path
) -> None:
    for path in (run_page, sweep_page):
        visited = visit(path)
        visited.page.wait_for_timeout(300)
        assert visited.said == []
        assert visited.asked == [path.resolve().as_uri()]
        assert "hacked" not in visited.page.title()


def test_every_figure_is_drawn_and_can_be_saved_but_not_sent_away(
    visit: Callable[..., Opened], run_page: Path
) -> None:
    page = visit(run_page).page
    figures = page.locator("figure")
    drawn = page.locator("figure:has(svg.main-svg .trace, svg.main-svg .hm)")
    assert figures.count() == drawn.count() > 3
    buttons = page.locator("figure").first.locator(".modebar-btn")
    titles = [buttons.nth(i).get_attribute("data-title") for i in range(buttons.count())]
    assert titles == ["Zoom", "Pan", "Reset axes", "save as png", "save as svg"]
    with page.expect_download() as download:
        page.locator('[data-title="save as svg"]').first.click()
    saved = Path(download.value.path()).read_text()
    assert saved.startswith("<svg")
    assert "size and latency" in saved  # its title is in the picture


def test_tables_sort_as_numbers_with_what_is_none_last_and_filter(
    visit: Callable[..., Opened], sweep_page: Path
) -> None:
    page = visit(sweep_page).page
    heading = page.get_by_role("button", name="accuracy, int8", exact=True)
    heading.click()
    numbers = ["0.0625", "0.2500", "0.5000", "0.7500", "0.7500", "0.8750", "1.0000"]
    assert column(page, "accuracy, int8") == [*numbers, "NaN", "-"]
    heading.click()
    assert column(page, "accuracy, int8") == [*reversed(numbers), "NaN", "-"]
    assert page.locator('th[aria-sort="descending"]').count() == 1
    page.get_by_role("button", name="run", exact=True).first.click()
    assert column(page, "run")[-1] == "unfinished"
    page.locator("input[type=search]").first.fill("RUN completed 0.8750")
    assert column(page, "run") == ["run 1"]


def test_dark_follows_the_system_and_the_switch_and_so_do_the_figures(
    visit: Callable[..., Opened], run_page: Path
) -> None:
    page = visit(run_page, color_scheme="dark").page

    def brightness() -> tuple[float, float]:
        """Of the page's ground and of the ink of its figures, in 0 to 255."""
        return page.evaluate(
            """() => [
              getComputedStyle(document.body).backgroundColor,
              getComputedStyle(document.querySelector("svg .xtick text")).fill,
            ].map((c) => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3)"""
        )

    ground, ink = brightness()
    assert ground < 60 < 180 < ink
    page.locator("#theme").click()
    ground, ink = brightness()
    assert ink < 60 < 180 < ground
    page.emulate_media(color_scheme="light")
    page.locator("#theme").click()
    ground, ink = brightness()
    assert ground < 60 < 180 < ink


def test_a_phone_scrolls_tables_and_never_the_page(
    visit: Callable[..., Opened], run_page: Path, sweep_page: Path
) -> None:
    for path in (run_page, sweep_page):
        page = visit(path, viewport={"width": 360, "height": 740}).page
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate(
            "[...document.querySelectorAll('svg.main-svg')].every((e) => e.clientWidth <= 360)"
        )


def test_a_printed_page_is_light_and_as_wide_as_paper(
    visit: Callable[..., Opened], run_page: Path
) -> None:
    page = visit(run_page, color_scheme="dark", viewport={"width": 1400, "height": 900}).page
    page.evaluate(
        "window.addEventListener('beforeprint', () => { window.widths ="
        " [...document.querySelectorAll('svg.main-svg')].map((e) => e.clientWidth);"
        " window.printed = document.documentElement.dataset.theme; })"
    )
    pdf = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1
    assert page.evaluate("window.printed") == "light"
    assert max(page.evaluate("window.widths")) <= 700
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
