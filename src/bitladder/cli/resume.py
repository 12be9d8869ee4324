"""``bitladder resume``: go on with a run that was killed or interrupted."""

from bitladder.cli.arguments import Parser

SUMMARY = "Go on with a run where its last checkpoint stands, to the same end."
USAGE = "RUN [KEY=VALUE ...]"
DETAILS = """\
keys:
  data.KEY=VALUE          what is different here: data.root=FOLDER; the data must be the same
  allow=[package]         let the run's configuration name code of this package
  trust_links=true        let links in the run's directory lead out of it, as to another disk
  trust_loggers=true      let its loggers write and send where its configuration says: to wandb's
                          servers, to a server or another folder of MLflow's

The run goes on in its own directory, from checkpoints/last.ckpt or, if that is damaged, from the
one before it, and ends with the weights, metrics and files of a run that was never stopped. Where
the training was over, what follows it is done again. A completed run is left as it is. One process
at a time: a run that still lives is refused.

A run directory is data: what its configuration names is built only if bitladder itself has it, and
its checkpoint is read as tensors and plain containers.
"""
EXAMPLES = """\
examples:
  bitladder resume runs/digits-fp32-qat-s1-20261122-204500
  bitladder resume runs/fashion-fp16-qat-s1-20261122-204500 data.root=/data/fashion
"""


def run(arguments: list[str]) -> int:
    """Read a run and go on with it.

    Args:
        arguments: What follows ``resume`` on the command line.

    Returns:
        The exit status.

    Raises:
        UserError: If an argument is wrong or the run cannot go on; nothing in it has changed then.
        RunError: If the run failed.
    """
    options = _parser().parse_intermixed_args(arguments)

    from bitladder.cli.resuming import resume

    return resume(options.run.removeprefix("run="), options.overrides)


def _parser() -> Parser:
    parser = Parser("resume", summary=SUMMARY, usage=USAGE, details=f"{DETAILS}\n{EXAMPLES}")
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="see above")
    return parser
