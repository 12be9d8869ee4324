"""TensorBoard's record of a run, with the hyperparameters that its HPARAMS page compares."""

from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from bitladder.cli.guard import GuardedLogger
from bitladder.cli.hyperparameters import hyperparameters
from bitladder.cli.ranks import rank
from bitladder.cli.schema import Config


class GuardedTensorBoard(GuardedLogger):
    """A guarded `TensorBoardLogger` whose run is a session of HPARAMS.

    PyTorch also writes a summary of the experiment, which names the columns. TensorBoard takes the
    first one that it finds for all runs: a run of other columns, without int8 for example, would
    hide theirs. Where there is none it makes the columns of all runs' values, so none is written.
    """

    logger: TensorBoardLogger

    def __init__(self, label: str, logger: TensorBoardLogger) -> None:
        super().__init__(label, logger)
        self._last_step = -1

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Record metrics."""
        self._last_step = max(self._last_step, step or 0)
        super().log_metrics(metrics, step)

    def state_dict(self) -> dict[str, int]:
        """The last step that was recorded."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let TensorBoard forget the steps that a run recorded after its checkpoint."""
        self._last_step = state_dict["last_step"]
        self.attempt(self._reopen)

    def _reopen(self) -> None:
        if rank() == 0:
            self.logger.experiment.close()
            self.logger._kwargs["purge_step"] = self._last_step + 1
            self.logger._experiment = None

    def log_config(self, config: Config) -> None:
        """Start the session."""
        super().log_config(config)
        self.attempt(self._write, _summaries(hyperparameters(config))[1])

    def close(self, status: str) -> None:
        """End the session, if the run went well, and the record."""
        if status == "success":
            self.attempt(self._write, _summaries({})[2])
        super().close(status)

    def _write(self, summary: Any) -> None:
        if rank() == 0:
            self.logger.experiment._get_file_writer().add_summary(summary)


def _summaries(values: dict[str, float | str]) -> tuple[Any, Any, Any]:
    """PyTorch's summaries of the experiment, the start of a session and its end."""
    from torch.utils.tensorboard.summary import hparams

    return hparams(values, {})
