"""``bitladder train``: compose a configuration, check it, and train."""

from pathlib import Path

from bitladder.cli.arguments import Parser
from bitladder.cli.configs import conf_dir, groups

SUMMARY = "Train, quantize and measure one experiment; with -m, one for every combination."
USAGE = "[-m] [--cfg] [--config-dir DIR] [GROUP=CHOICE ...] [KEY=VALUE ...]"
EXAMPLES = """\
examples:
  bitladder train experiment=fashion_mnist precision=bf16 quantization=ptq
  bitladder train trainer.max_epochs=3 optimizer.lr=0.001 seed=2
  bitladder train -m quantization=none,ptq,qat seed=1,2,3
"""


def run(arguments: list[str]) -> int:
    """Compose, check and train.

    Args:
        arguments: What follows ``train`` on the command line.

    Returns:
        The exit status.

    Raises:
        UserError: If the configuration is wrong; nothing is on disk then.
        RunError: If the training failed.
    """
    options = _parser().parse_intermixed_args(arguments)

    from bitladder.cli.compose import compose, open_source
    from bitladder.cli.rules import check
    from bitladder.cli.validate import validate

    with open_source(options.config_dir) as source:
        if options.multirun:
            from bitladder.cli.sweep import sweep

            return sweep(source, options.overrides)
        config = validate(compose(source, options.overrides))
    if options.cfg:
        print(config.to_yaml(), end="")
        return 0
    check(config)

    from bitladder.cli.training import train

    return train(config)


def _parser() -> Parser:
    choices = "\n".join(
        f"  {group}: {', '.join(names)}"
        for group, names in groups(conf_dir()).items()
        if group not in ("hydra", "local")
    )
    parser = Parser(
        "train",
        summary=SUMMARY,
        usage=USAGE,
        details=f"groups and choices:\n{choices}\n\n{EXAMPLES}",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="what differs from the default"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("-m", "--multirun", action="store_true", help="one run for every combination")
    mode.add_argument("--cfg", action="store_true", help="print the checked configuration and stop")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="more configuration files")
    return parser
