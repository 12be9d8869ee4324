import io

import pytest
from rich.console import Console

from bitladder.cli.formats_table import decimal, show
from bitladder.cli.numbers import parse
from bitladder.formats import FLOAT_FORMATS


def render(*texts: str, width: int = 1000, saturate: bool = False) -> str:
    file = io.StringIO()
    numbers = [parse(text) for text in texts]
    show(Console(file=file, width=width), numbers, saturate=saturate)
    return file.getvalue()


def row(text: str, name: str) -> list[str]:
    cells = next(line for line in text.splitlines() if line.startswith(f"│ {name} "))
    return [cell.strip() for cell in cells.strip("│").split("│")]


def test_a_row_says_everything() -> None:
    text = render("0.1")
    assert row(text, "fp32") == [
        "fp32",
        "0 01111011 10011001100110011001101",
        "0x3dcccccd",
        "0.100000001490116119384765625",
        "1.49e-9",
        "1.49e-8",
        "rounded",
    ]
    assert row(text, "tf32")[1:3] == ["0 01111011 1001100110", "0x1ee66"]
    assert row(text, "e4m3")[1:4] == ["0 0011 101", "0x1d", "0.1015625"]


def test_there_is_a_row_for_every_format_down_the_ladder() -> None:
    lines = [line for line in render("0.1").splitlines() if line.startswith("│")]
    assert [line.split()[1] for line in lines] == list(FLOAT_FORMATS)


def test_what_has_no_error_or_no_distance() -> None:
    text = render("inf")
    assert row(text, "fp16")[3:] == ["inf", "0", "0", "exact"]
    assert row(text, "e4m3")[3:] == ["nan", "-", "-", "NaN: has no infinity"]


def test_every_number_has_its_table() -> None:
    text = render("1", "fp16:0x3c01", "2")
    titles = [line for line in text.splitlines() if line and line[0] not in "┏┃┡│└"]
    assert titles == ["1", "fp16:0x3c01 = 1.0009765625", "2"]


def test_all_digits_are_shown() -> None:
    text = render("fp32:0x7fffff")
    assert row(text, "fp32")[3] == decimal(2**-126 - 2**-149)
    assert len(row(text, "fp32")[3]) == 117
    assert "…" not in text


@pytest.mark.parametrize("number", ["0.1", "-1e-40", "nan", "1e39"])
def test_it_fits_the_terminal_and_loses_nothing(number: str) -> None:
    wide = set(cells(render(number)))
    for width in range(45, 130):
        text = render(number, width=width)
        assert max(map(len, text.splitlines())) <= width
        # Broken cells put together again are those of the wide table.
        assert set(cells(text)) == wide


def cells(text: str) -> list[str]:
    found: list[str] = []
    columns: list[str] = []
    for line in text.splitlines():
        if not line.startswith("│"):
            found += columns
            columns = []
            continue
        parts = [part.strip() for part in line.strip("│").split("│")]
        if parts[0]:
            found += columns
            columns = parts
        else:
            columns = [above + below for above, below in zip(columns, parts, strict=True)]
    return [cell.replace(" ", "") for cell in [*found, *columns]]


def test_columns_that_do_not_fit_follow_in_another_table() -> None:
    assert render("0.1", width=130).count("format") == 1
    assert render("0.1", width=80).count("format") == 2
    assert render("0.1", width=45).count("format") == 3


def test_fields_are_coloured_on_a_terminal_only() -> None:
    file = io.StringIO()
    console = Console(file=file, width=130, force_terminal=True, color_system="standard")
    show(console, [parse("0.1")], saturate=False)
    assert "\x1b[1;31m0\x1b[0m \x1b[32m0011\x1b[0m \x1b[36m101\x1b[0m" in file.getvalue()
    assert "\x1b" not in render("0.1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1000000000000000055511151231257827021181583404541015625"),
        (65504.0, "65504"),
        (2.0**-24, "5.9604644775390625e-8"),
        (-0.0, "-0"),
        (-float("inf"), "-inf"),
        (float("nan"), "nan"),
    ],
)
def test_decimals_are_exact(value: float, text: str) -> None:
    assert decimal(value) == text
