"""``bitladder train -m``: one run for every combination, by Hydra's sweeper and launcher."""

from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from bitladder.cli.compose import Source, compose, one_line_errors, resolve
from bitladder.cli.configs import PRIMARY
from bitladder.cli.overrides import combinations, is_sweep, parse, quoted
from bitladder.cli.rules import check
from bitladder.cli.status import exit_status
from bitladder.cli.sweeping import require_one_process
from bitladder.cli.validate import validate
from bitladder.errors import UserError


def sweep(source: Source, overrides: list[str]) -> int:
    """Run every combination of the overrides' values, or search them, and print the folder.

    The sweeper is bitladder's own unless ``hydra/sweeper`` names another, which then decides what
    runs and when, with Hydra's launchers.

    Args:
        source: From :func:`bitladder.cli.compose.open_source`.
        overrides: As on the command line; ``key=a,b`` stands for two runs.

    Returns:
        The worst exit status of the runs.

    Raises:
        UserError: If any of the configurations is wrong; nothing has run then.
    """
    for text in overrides:
        if (override := parse(text)).is_hydra_override() and is_sweep(override):
            key, _, value = text.partition("=")
            raise UserError(
                f"{text}: Hydra's own keys have one value: quote it, \"{key}='{value}'\""
            )
    arguments = source.arguments(overrides)
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    with one_line_errors():
        plan = hydra.compose_config(
            PRIMARY, arguments, RunMode.MULTIRUN, with_log_configuration=False
        )
        if plan.hydra.runtime.choices["hydra/sweeper"] == "bitladder":
            return hydra.multirun(PRIMARY, _job, arguments, with_log_configuration=False)
        for combination in combinations(overrides):
            config = validate(compose(source, combination))
            check(config)
            require_one_process(config)
        # Said again as an override, so that the jobs and the last line agree on the time in it.
        folder = str(Path(plan.hydra.sweep.dir))
        _make(folder)
        returned = hydra.multirun(PRIMARY, _job, [*arguments, f"hydra.sweep.dir={quoted(folder)}"])
    print(folder)
    # A sweeper that searches may return nothing.
    return max((job.return_value for batch in returned or [] for job in batch), default=0)


def _make(folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; write paths.sweeps=FOLDER") from error


def _job(composed: DictConfig) -> int:
    hydra = HydraConfig.get()
    with open_dict(composed):
        composed.pop("sweep", None)
    # A run that fails leaves the others alone.
    return exit_status(lambda: _train(resolve(composed, hydra.runtime.choices), hydra.sweep.dir))


def _train(values: dict[str, object], folder: str) -> int:
    config = validate(values).in_folder(folder)
    check(config)

    from bitladder.cli.training import train

    return train(config)
