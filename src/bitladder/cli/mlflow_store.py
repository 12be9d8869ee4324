"""MLflow's own store: a database that many runs share, and what must be there for it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lightning.pytorch.loggers import MLFlowLogger

from bitladder.cli.build import instantiate
from bitladder.cli.guard import GuardedLogger
from bitladder.cli.logs import stderr_in_log
from bitladder.cli.ranks import rank
from bitladder.cli.schema import Config, Node
from bitladder.errors import UserError

PACKAGES = ("mlflow", "sqlalchemy", "alembic")
"""The client, and what it keeps a database with."""

SQLITE = "sqlite:///"


class GuardedMLFlow(GuardedLogger):
    """A guarded `MLFlowLogger`."""

    logger: MLFlowLogger

    def log_config(self, config: Config) -> None:
        """Log the configuration as parameters, which end after 250 letters, and as a file."""
        super().log_config(config)
        self.attempt(self._log_text, config.to_yaml(), "config.yaml")

    def log_file(self, name: str, kind: str, file: Path) -> None:
        """Copy a file to the store."""
        self.attempt(self._log_artifact, file, kind)

    def _log_text(self, text: str, name: str) -> None:
        if rank() == 0:
            self.logger.experiment.log_text(str(self.logger.run_id), text, name)

    def _log_artifact(self, file: Path, folder: str) -> None:
        self.logger.experiment.log_artifact(str(self.logger.run_id), str(file), folder)


def missing_packages() -> str | None:
    """What must be installed for MLflow, in one line; None if all is there."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    return f"needs {', '.join(missing)}: pip install 'bitladder[mlflow]'" if missing else None


def open_mlflow(node: Node, where: str, supplied: dict[str, Any]) -> GuardedMLFlow:
    """Open a run in the store, on rank 0.

    Args:
        node: The logger's node.
        where: Its place in the configuration.
        supplied: What the program adds to it.

    Raises:
        UserError: If the logger refuses its arguments or the store cannot be opened.
    """
    from mlflow.exceptions import MlflowException

    store = str(node.get("tracking_uri") or supplied.get("tracking_uri"))
    if store.startswith(SQLITE):
        _make(Path(unquote(store.removeprefix(SQLITE))).parent)
    try:
        with stderr_in_log():
            logger = instantiate(node, where, **supplied)
            if rank() == 0:
                try:
                    _ = logger.experiment
                except MlflowException:  # another job made the experiment at the same moment
                    _ = logger.experiment
    except MlflowException as error:
        raise UserError(f"{where}: {store}: {str(error).splitlines()[0]}") from error
    return GuardedMLFlow(where, logger)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; write paths.mlflow=FOLDER") from error
