"""One job of a sweep, in a process of its own."""

from collections.abc import Callable, Sequence

# Not used here: every job would import them for itself, half-way through. No thread starts in them.
import torch._inductor.compile_fx  # noqa: F401
import wandb.apis.public  # noqa: F401

from bitladder.cli.compose import compose, open_source
from bitladder.cli.rules import check
from bitladder.cli.status import exit_status
from bitladder.cli.training import train
from bitladder.cli.validate import validate
from bitladder.errors import HopelessError
from bitladder.sweeps.runner import PRUNED


def run_job(overrides: Sequence[str], folder: str, tell: Callable[[str], None]) -> int:
    """Compose, check and train, as ``bitladder train`` does.

    Args:
        overrides: All that makes the configuration.
        folder: Where the run directory goes.
        tell: Is given the run directory's name once it is made.

    Returns:
        The exit status; of its own for a run that was given up.
    """
    return exit_status(lambda: _train(overrides, folder, tell))


def _train(overrides: Sequence[str], folder: str, tell: Callable[[str], None]) -> int:
    with open_source() as source:
        config = validate(compose(source, overrides)).in_folder(folder)
    check(config)
    try:
        return train(config, lambda directory: tell(directory.path.name))
    except HopelessError as error:
        print(f"bitladder: {error}")
        return PRUNED
