"""``bitladder formats``: a number in every floating-point format."""

from bitladder.cli.arguments import Parser

SUMMARY = "Show what every floating-point format makes of a number: its bits, its value, its error."
USAGE = "[--saturate] VALUE [VALUE ...]"
DETAILS = """\
values:
  0.1  -1e-8  1_000       a decimal number; rounded once, from exactly what is written
  1/3                     a fraction
  nan  inf  -inf  -0      what is not a number, or is one with a sign of its own
  fp16:0x3c00             a bit pattern of a format, in hexadecimal ...
  e4m3:0b0_0111_000       ... or in binary; underscores may stand anywhere between digits

A row shows sign, exponent and fraction, the pattern in hexadecimal, the value that is stored, in
full, and its distance from the value that was written.

examples:
  bitladder formats 0.1
  bitladder formats 65520 -1e-8 nan
  bitladder formats --saturate 1e6
"""


def run(arguments: list[str]) -> int:
    """Print a table for each value.

    Args:
        arguments: What follows ``formats`` on the command line.

    Returns:
        0.

    Raises:
        UserError: If a value is none; nothing is printed then.
    """
    # A value may begin with a dash, which argparse would take for an option's: -1e-8, -inf.
    options = [argument for argument in arguments if _is_option(argument)]
    values = [argument for argument in arguments if not _is_option(argument) and argument != "--"]
    parsed = _parser().parse_args([*options, "--", *values])

    from rich.console import Console

    from bitladder.cli.formats_table import show
    from bitladder.cli.numbers import parse

    numbers = [parse(value) for value in parsed.values]
    console = Console()
    if not console.is_terminal:
        console.width = 1000  # a file has no width: every row is one line
    show(console, numbers, saturate=parsed.saturate)
    return 0


def _is_option(argument: str) -> bool:
    return argument == "-h" or (argument.startswith("--") and argument != "--")


def _parser() -> Parser:
    parser = Parser("formats", summary=SUMMARY, usage=USAGE, details=DETAILS)
    parser.add_argument("values", nargs="+", metavar="VALUE", help="what to show, see below")
    parser.add_argument(
        "--saturate",
        action="store_true",
        help="what is too large, or infinite, becomes the largest finite number",
    )
    return parser
