"""``bitladder reproduce``: a finished run once more, compared bit by bit."""

from bitladder.cli.arguments import Parser

SUMMARY = "Run a finished run again, in a directory of its own, and compare bit by bit."
USAGE = "RUN [KEY=VALUE ...] [--allow PACKAGE]"
DETAILS = """\
keys:
  data.KEY=VALUE          what is different here: data.root=FOLDER; the data must be the same
  checkpoint=FILE         the file that the run started from, if it started from one
  paths.runs=FOLDER       where the new run directory goes
  allow=[package]         let the run's configuration name code of this package
  trust_links=true        let links in the run's directory lead out of it, as to another disk

Compared are every logged number step by step, the final weights, scales and zero points, the
metrics of the rungs and what both artifacts answer; not sizes, times and latencies. The last line
is "identical"; else the lines before say which step and tensor differ first, and what differs
between the machines. reproduction.json in the new directory holds all of it.

A run directory is data: what its configuration names is built only if bitladder itself has it, and
it may write nowhere else. The repetition logs to metrics.csv alone.
"""
EXAMPLES = """\
examples:
  bitladder reproduce runs/digits-fp32-qat-s1-20261122-204500
  bitladder reproduce /mnt/theirs/run data.root=/data/fashion paths.runs=/tmp/runs

exit status: 0 identical, 1 not identical or the run failed, 2 the run cannot be repeated here
"""


def run(arguments: list[str]) -> int:
    """Read a run, repeat it and compare.

    Args:
        arguments: What follows ``reproduce`` on the command line.

    Returns:
        0 if all is identical, else 1.

    Raises:
        UserError: If an argument is wrong or the run cannot be repeated; nothing is on disk then.
        RunError: If the repetition failed.
    """
    options = _parser().parse_intermixed_args(arguments)

    from bitladder.cli.reproducing import reproduce

    return reproduce(options.run.removeprefix("run="), options.overrides, options.allow)


def _parser() -> Parser:
    parser = Parser("reproduce", summary=SUMMARY, usage=USAGE, details=f"{DETAILS}\n{EXAMPLES}")
    parser.add_argument("run", metavar="RUN", help="the run directory; it is read, never changed")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="see below")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="the same as allow=[PACKAGE]",
    )
    return parser
