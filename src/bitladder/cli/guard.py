"""A logger whose failures cost its own record and nothing else."""

import logging
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from bitladder.cli.schema import Config

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

log = logging.getLogger(__name__)


class GuardedLogger(Logger):
    """Hands every call on to a logger, and keeps what that raises away from the training.

    The first failure is a warning in the run's log; later calls are tried again. A training ends
    before its run does: the rungs follow. So :meth:`finalize`, which Lightning calls, does nothing,
    and :meth:`close` ends the record.

    Args:
        label: What the logger is called in the configuration.
        logger: Any of Lightning's.
    """

    def __init__(self, label: str, logger: Logger) -> None:
        super().__init__()
        self.label = label
        self.logger = logger
        self._failures = 0

    @property
    def name(self) -> str | None:
        """The logger's own."""
        return self.logger.name

    @property
    def version(self) -> int | str | None:
        """The logger's own."""
        return self.logger.version

    @property
    def root_dir(self) -> str | None:
        """The logger's own."""
        return self.logger.root_dir

    @property
    def log_dir(self) -> str | None:
        """The logger's own."""
        return self.logger.log_dir

    @property
    def save_dir(self) -> str | None:
        """The logger's own."""
        return self.logger.save_dir

    @property
    def group_separator(self) -> str:
        """The logger's own."""
        return self.logger.group_separator

    @property
    def experiment(self) -> Any:
        """The tool's own object; what is called on it is not guarded."""
        return getattr(self.logger, "experiment", None)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Record metrics."""
        self.attempt(self.logger.log_metrics, metrics, step)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Record hyperparameters."""
        self.attempt(self.logger.log_hyperparams, params, *args, **kwargs)

    def log_graph(self, model: nn.Module, input_array: Tensor | None = None) -> None:
        """Record the model's graph, where the logger does that."""
        self.attempt(self.logger.log_graph, model, input_array)

    def save(self) -> None:
        """Bring what is recorded to the disk."""
        self.attempt(self.logger.save)

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Tell the logger of a new checkpoint."""
        self.attempt(self.logger.after_save_checkpoint, checkpoint_callback)

    def log_config(self, config: Config) -> None:
        """Record the whole configuration."""
        self.log_hyperparams(config.model_dump())

    def log_file(self, name: str, kind: str, file: Path) -> None:
        """Keep a file of the run's, where the tool keeps files.

        Args:
            name: What it is called among those of all runs.
            kind: ``model`` or ``report``.
            file: Where it lies.
        """

    def log_figures(self, figures: Mapping[str, "Figure"]) -> None:
        """Record figures by name, where the tool draws them."""

    def finalize(self, status: str) -> None:
        """Nothing yet; see :meth:`close`."""

    def close(self, status: str) -> None:
        """End the record.

        Args:
            status: ``success`` or ``failed``.
        """
        self.attempt(self.logger.finalize, status)
        if self._failures > 1:
            log.warning("%s: %d calls failed, the first is above", self.label, self._failures)

    def attempt(self, call: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        """Call something of the tool's, whatever it may raise."""
        try:
            call(*args, **kwargs)
        except Exception as error:  # tools raise what their network, server and disk do
            self._failures += 1
            if self._failures == 1:
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("%s lacks a part of this run: %s", self.label, what)
