"""One job of a sweep, in a process of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path

# Not used here: every job would import them for itself, half-way through. No thread starts in them.
import torch._inductor.compile_fx  # noqa: F401
import wandb.apis.public  # noqa: F401

from bitladder.cli.compose import compose, open_source
from bitladder.cli.resuming import take_up
from bitladder.cli.rules import check
from bitladder.cli.status import exit_status
from bitladder.cli.training import train
from bitladder.cli.validate import validate
from bitladder.errors import HopelessError
from bitladder.sweeps.runner import PRUNED


def run_job(
    overrides: Sequence[str], folder: str, unfinished: str | None, tell: Callable[[str], None]
) -> int:
    """Compose, check and train, as ``bitladder train`` does, or go on as ``resume`` does.

    Args:
        overrides: All that makes the configuration.
        folder: Where the run directory goes.
        unfinished: The run directory in it that an attempt before this one left, if one did.
        tell: Is given the run directory's name once it is made.

    Returns:
        The exit status; of its own for a run that was given up.
    """
    return exit_status(lambda: _train(overrides, Path(folder), unfinished, tell))


def _train(
    overrides: Sequence[str], folder: Path, unfinished: str | None, tell: Callable[[str], None]
) -> int:
    with open_source() as source:
        config = validate(compose(source, overrides)).in_folder(str(folder))
    check(config)
    try:
        if unfinished is not None:
            status = take_up(folder / unfinished, config)
            if status is not None:
                return status
            print("the job begins anew")
        return train(config, lambda directory: tell(directory.path.name))
    except HopelessError as error:
        print(f"bitladder: {error}")
        return PRUNED
