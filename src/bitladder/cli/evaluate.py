"""``bitladder evaluate``: every rung of a finished run, measured again from its files."""

from bitladder.cli.arguments import Parser

SUMMARY = "Measure a finished run again, from what is on disk, beside what it recorded."
USAGE = "run=RUN [trust_artifact=true] [KEY=VALUE ...]"
DETAILS = """\
keys:
  run=RUN                 the run directory; evaluation.json is written into it
  trust_artifact=true     run the int8 artifact, see below
  checkpoint=last.ckpt    which of RUN/checkpoints; last.ckpt if there is one, else best.ckpt
  data.KEY=VALUE          what is different here: data.root=FOLDER, data.batch_size=256
  output=FILE             write there instead of RUN/evaluation.json
  strict=true             exit status 1 if an accuracy is not the recorded one
  allow_unfinished=true   take a run that failed or never came to its end
  allow=[package]         let the run's configuration name code of this package
  trust_links=true        let links in the run's directory lead out of it, as to another disk

The float rung is the checkpoint, compiled here and now; both rungs run on the CPU. The int8 rung is
the artifact itself, which is native code: loading it executes whatever whoever wrote the run
directory put into it, and nothing in the directory can prove otherwise. So it runs only with
trust_artifact=true; without, its size is measured and the rest is left out. To measure int8 of a
run that you do not trust, make an artifact of your own: bitladder quantize run=RUN.

All else in a run directory is data: what its configuration names is built only if bitladder itself
or torch.optim has it, and its checkpoint is read as tensors and plain containers.
"""
EXAMPLES = """\
examples:
  bitladder evaluate run=runs/digits-fp32-qat-s1-20261122-204500 trust_artifact=true
  bitladder evaluate run=/mnt/theirs/run data.root=/data/fashion output=theirs.json
"""


def run(arguments: list[str]) -> int:
    """Read a run and measure it.

    Args:
        arguments: What follows ``evaluate`` on the command line.

    Returns:
        The exit status.

    Raises:
        UserError: If an argument is wrong or the run cannot be used; nothing is on disk then.
        RunError: If the model cannot be measured or, with ``strict=true``, is not as recorded.
    """
    options = _parser().parse_intermixed_args(arguments)

    from bitladder.cli.evaluating import evaluate

    return evaluate(options.overrides)


def _parser() -> Parser:
    parser = Parser("evaluate", summary=SUMMARY, usage=USAGE, details=f"{DETAILS}\n{EXAMPLES}")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="see below")
    return parser
