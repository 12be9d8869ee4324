"""Where Hydra finds bitladder's sweeper; ``bitladder.cli.sweeping`` does the work."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class BitladderSweeper(Sweeper):
    """``hydra/sweeper=bitladder``, the default of ``bitladder train -m``: survives a kill.

    Args:
        params: ``hydra.sweeper.params``, as of Hydra's own sweeper; read from the configuration.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self._config = DictConfig({})

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the configuration; the jobs run in processes of their own, without a launcher."""
        self._config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep; gives its exit status."""
        from bitladder.cli.sweeping import run_sweep

        return run_sweep(self._config, arguments)
