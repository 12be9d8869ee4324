"""``bitladder report``: a run, or many, as one page that opens offline."""

from bitladder.cli.arguments import Parser

SUMMARY = "Make one self-contained HTML page about a run, a sweep, or any folder of runs."
USAGE = "PATH [output=FILE]"
DETAILS = """\
arguments:
  PATH           a run directory, or a folder with runs in it or in its folders
  output=FILE    write there instead of PATH/report.html

The page fetches nothing, and can be sent to anybody. Runs that failed, still run, or were killed
are shown as what they are. Nothing in a run directory is executed, whoever wrote it. Run it again
for what has come since.

examples:
  bitladder report runs/digits-fp32-qat-s1-20261122-204500
  bitladder report sweeps/ladder output=ladder.html
"""


def run(arguments: list[str]) -> int:
    """Write the page and show its figures as a table.

    Args:
        arguments: What follows ``report`` on the command line.

    Returns:
        0. The last line printed is the file that was written.

    Raises:
        UserError: If there is no run in the folder, or an argument is wrong.
        RunError: If the page cannot be written.
    """
    options = _parser().parse_intermixed_args(arguments)

    from bitladder.cli.reporting import report

    return report(options.arguments)


def _parser() -> Parser:
    parser = Parser("report", summary=SUMMARY, usage=USAGE, details=DETAILS)
    parser.add_argument("arguments", nargs="+", metavar="PATH", help="see above")
    return parser
