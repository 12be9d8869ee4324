"""MLflow's own store: a database that many runs share, and what must be there for it."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger

from bitladder.cli.build import instantiate
from bitladder.cli.guard import GuardedLogger
from bitladder.cli.logs import stderr_in_log
from bitladder.cli.ranks import rank
from bitladder.cli.schema import Config, Node
from bitladder.errors import UserError

PACKAGES = ("mlflow", "sqlalchemy", "alembic")
"""The client, and what it keeps a database with."""

VARIABLE = "MLFLOW_TRACKING_URI"
"""In which MLflow looks for the address of a store."""


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


def open_mlflow(node: Node, where: str, supplied: dict[str, Any], folder: Path) -> GuardedMLFlow:
    """Open a run on rank 0, in the store that the node or MLflow's own variable names, or in ours.

    Args:
        node: The logger's node.
        where: Its place in the configuration.
        supplied: What the program adds to it.
        folder: Where our store is, or will be.

    Raises:
        UserError: If the logger refuses its arguments or the store cannot be opened.
    """
    from mlflow.exceptions import MlflowException

    variable = os.environ.get(VARIABLE)
    named = node.get("tracking_uri") or variable
    places = {"tracking_uri": named} if named else _own_store(folder)
    supplied = supplied | {key: place for key, place in places.items() if key not in node}
    try:
        with stderr_in_log():
            logger = instantiate(node, where, **supplied)
            if rank() == 0:
                try:
                    _ = logger.experiment
                except MlflowException:  # another job made the experiment at the same moment
                    _ = logger.experiment
    except MlflowException as error:
        store = places["tracking_uri"]
        raise UserError(f"{where}: {store}: {str(error).splitlines()[0]}") from error
    finally:
        # Lightning's logger sets it, for this process and all later runs in it.
        os.environ.pop(VARIABLE, None)
        if variable is not None:
            os.environ[VARIABLE] = variable
    return GuardedMLFlow(where, logger)


def _own_store(folder: Path) -> dict[str, str]:
    """A database, since MLflow 3 refuses its old store of plain files."""
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; write paths.mlflow=FOLDER") from error
    return {
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "artifact_location": (folder / "artifacts").as_uri(),
    }
