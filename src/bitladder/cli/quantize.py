"""``bitladder quantize``: int8 from a finished run's checkpoint, without training."""

from pathlib import Path

from bitladder.cli.arguments import Parser
from bitladder.cli.configs import conf_dir, groups

SUMMARY = "Quantize a finished run's checkpoint, dynamically or after calibration; nothing trains."
USAGE = "run=RUN [quantization=ptq|dynamic] [KEY=VALUE ...] [--config-dir DIR]"
DETAILS = """\
keys:
  run=RUN                 the run directory; it is read, never changed
  quantization=ptq        the default, or dynamic; and their keys, quantization.skip=[head]
  checkpoint=best.ckpt    which of RUN/checkpoints; best.ckpt if there is one, else last.ckpt
  data.KEY=VALUE          what is different here: data.root=FOLDER
  paths.runs=FOLDER       where the new run directory goes
  allow_unfinished=true   take a run that failed or never came to its end
  allow=[package]         let the run's configuration name code of this package
  trust_links=true        let links in the run's directory lead out of it, as to another disk

A run directory is data: what its configuration names is built only if bitladder itself or
torch.optim has it, and its checkpoint is read as tensors and plain containers.
"""
EXAMPLES = """\
examples:
  bitladder quantize run=runs/digits-fp32-none-s1-20261122-204500
  bitladder quantize run=RUN quantization/observer=minmax quantization.calibration_batches=8
  bitladder quantize run=RUN quantization=dynamic data.root=/data/fashion
"""


def run(arguments: list[str]) -> int:
    """Read a run, quantize and measure.

    Args:
        arguments: What follows ``quantize`` on the command line.

    Returns:
        The exit status.

    Raises:
        UserError: If an argument is wrong or the run cannot be used; nothing is on disk then.
        RunError: If the conversion failed.
    """
    options = _parser().parse_intermixed_args(arguments)

    from bitladder.cli.compose import open_source

    with open_source(options.config_dir) as source:
        from bitladder.cli.quantizing import plan, quantize

        planned = plan(source, options.overrides)
    return quantize(planned)


def _parser() -> Parser:
    observers = ", ".join(groups(conf_dir())["quantization/observer"])
    details = f"{DETAILS}\nquantization/observer: {observers}\n\n{EXAMPLES}"
    parser = Parser("quantize", summary=SUMMARY, usage=USAGE, details=details)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="see below")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="more configuration files")
    return parser
