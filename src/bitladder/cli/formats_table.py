"""A number in every floating-point format, as a table on the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitladder.cli.numbers import Number
from bitladder.cli.rounded import Rounded, rounded
from bitladder.formats import FLOAT_FORMATS

SIGN, EXPONENT, FRACTION = "bold red", "green", "cyan"
UNDEFINED = "-"


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        header: What stands at its top.
        cell: What stands in a row.
        room: A cell that is longer than this many characters may be broken into several lines.
    """

    header: Text
    cell: Callable[[Rounded], Text]
    room: int = 1000

    def width(self, rows: Sequence[Rounded]) -> int:
        """The characters that its longest line takes, unbroken."""
        lines = [line for text in (self.header, *map(self.cell, rows)) for line in text.split()]
        return max(cell_len(line.plain) for line in lines)


def show(console: Console, numbers: Sequence[Number], *, saturate: bool) -> None:
    """Print a table for each number: one row a format.

    Where the terminal is too narrow for all columns, the rest of them follow in a second table, or
    a third.
    """
    for position, number in enumerate(numbers):
        if position:
            console.print()
        title = number.text
        if number.pattern is not None:
            title += f" = {decimal(number.double)}"
        console.print(title, markup=False, highlight=False, style="italic")
        rows = [rounded(number, format, saturate=saturate) for format in FLOAT_FORMATS.values()]
        columns = [_FORMAT]
        for group in _GROUPS:
            if len(columns) > 1 and not _fits([*columns, *group], rows, console.width):
                console.print(_table(columns, rows, console.width))
                columns = [_FORMAT]
            columns += group
        console.print(_table(columns, rows, console.width))


def decimal(value: float) -> str:
    """Return a float as the decimal number that it is, with all its digits (at most 112)."""
    return str(Decimal(value)).lower().replace("infinity", "inf")


def _fits(columns: Sequence[Column], rows: Sequence[Rounded], width: int) -> bool:
    # Each column has a space on either side and a line after it; the first one a line before it.
    return 1 + sum(min(column.width(rows), column.room) + 3 for column in columns) <= width


def _table(columns: Sequence[Column], rows: Sequence[Rounded], width: int) -> Table:
    table = Table()
    fits = _fits(columns, rows, width)
    for column in columns:
        whole = fits and column.width(rows) <= column.room
        table.add_column(column.header, no_wrap=whole, overflow="fold")
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _bits(row: Rounded) -> Text:
    digits = f"{row.pattern:0{row.format.bits}b}"
    fraction = 1 + row.format.exponent_bits
    return _fields(digits[0], digits[1:fraction], digits[fraction:])


def _fields(sign: str, exponent: str, fraction: str) -> Text:
    """Coloured, and readable without colours."""
    return Text.assemble((sign, SIGN), " ", (exponent, EXPONENT), " ", (fraction, FRACTION))


def _hexadecimal(row: Rounded) -> Text:
    return Text(f"0x{row.pattern:0{(row.format.bits + 3) // 4}x}")


def _short(error: Fraction | None) -> Text:
    """Three digits of an error: it is there to be compared with others."""
    if error is None:
        return Text(UNDEFINED)
    return Text(f"{Decimal(error.numerator) / error.denominator:.2e}" if error else "0")


_FORMAT = Column(Text("format"), lambda row: Text(row.format.name))
# Columns that are read together stay in one table.
_GROUPS = [
    [
        Column(_fields("sign", "exponent", "fraction"), _bits),
        Column(Text("pattern"), _hexadecimal),
    ],
    [Column(Text("stored value"), lambda row: Text(decimal(row.stored)), room=24)],
    [
        Column(Text("absolute\nerror"), lambda row: _short(row.error)),
        Column(Text("relative\nerror"), lambda row: _short(row.relative)),
        Column(Text("note"), lambda row: Text(row.note), room=10),
    ],
]
