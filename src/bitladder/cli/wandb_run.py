"""A run of Weights & Biases: online where it was asked for and can be, offline otherwise."""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from lightning.pytorch.loggers import WandbLogger

from bitladder.cli.build import instantiate
from bitladder.cli.guard import GuardedLogger
from bitladder.cli.logs import stderr_in_log
from bitladder.cli.ranks import rank
from bitladder.cli.schema import Node
from bitladder.errors import RunError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PROBE_SECONDS = 3.0
"""How long the server may take to answer at all."""

INIT_SECONDS = 10.0
"""How long a server that answers may take to open a run; wandb's own default is 90."""


class GuardedWandb(GuardedLogger):
    """A guarded `WandbLogger` with an open run.

    Args:
        label: What the logger is called in the configuration.
        logger: Lightning's.
        requested: ``online`` or ``offline``, as the configuration says.
        effective: The same, or ``disabled``, as it is.
        reason: Why the two differ, where they do.
    """

    def __init__(
        self,
        label: str,
        logger: WandbLogger,
        *,
        requested: str,
        effective: str,
        reason: str | None = None,
    ) -> None:
        super().__init__(label, logger)
        self.requested = requested
        self.effective = effective
        self.reason = reason

    @property
    def note(self) -> str | None:
        """What the user must be told, in one line."""
        if self.reason is None:
            return None
        return f"{self.label} is {self.effective}, not {self.requested}: {self.reason}"

    def record(self) -> dict[str, Any]:
        """What the manifest says: requested and effective mode, the run's id, why they differ."""
        record = {"requested": self.requested, "effective": self.effective, "id": self.version}
        return record if self.reason is None else record | {"reason": self.reason}

    def state_dict(self) -> dict[str, int]:
        """How many rows of history there are."""
        return {"step": int(getattr(self.experiment, "step", 0) or 0) if rank() == 0 else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Number the rows on from where the checkpoint was.

        What a run recorded after its checkpoint, and before it was killed, has the same numbers in
        the segment before: it was the same, and a server keeps the first.
        """
        if rank() == 0:
            self.attempt(self.experiment.log, {}, step=state_dict["step"])

    def log_file(self, name: str, kind: str, file: Path) -> None:
        """Log an artifact; offline, it is uploaded from where it lies when the run is synced."""
        self.attempt(self._log_artifact, name, kind, file)

    def log_figures(self, figures: Mapping[str, "Figure"]) -> None:
        """Log charts as ``report/NAME``."""
        charts = {f"report/{name}": figure for name, figure in figures.items()}
        self.attempt(self.experiment.log, charts)

    def _log_artifact(self, name: str, kind: str, file: Path) -> None:
        import wandb

        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", name, flags=re.ASCII), type=kind)
        # Mutable files are copied to a cache in the home directory first.
        artifact.add_file(str(file.absolute()), policy="immutable")
        self.experiment.log_artifact(artifact)


def open_wandb(node: Node, where: str, supplied: dict[str, Any]) -> GuardedWandb:
    """Open a run in the process that logs, rank 0.

    Args:
        node: The logger's node.
        where: Its place in the configuration.
        supplied: What the program adds to it.

    Raises:
        UserError: If the logger refuses its arguments.
        RunError: If not even an offline run can be opened.
    """
    import wandb

    def opened(mode: str, reason: str | None = None) -> GuardedWandb:
        # Lightning's own `offline` would set WANDB_MODE for this process and all later runs in it.
        more = {"offline": False, "mode": mode}
        if mode == "online" and "settings" not in node:
            more["settings"] = {"init_timeout": INIT_SECONDS}
        logger = instantiate(node, where, **supplied | more)
        if rank() == 0:
            with stderr_in_log():
                _ = logger.experiment
        return GuardedWandb(where, logger, requested=requested, effective=mode, reason=reason)

    requested = "offline" if node.get("offline") else "online"
    effective, reason = _possible(requested) if rank() == 0 else (requested, None)
    try:
        if effective == "online":
            try:
                return opened("online")
            except wandb.Error as error:
                effective, reason = "offline", str(error).splitlines()[0]
        return opened(effective, reason)
    except wandb.Error as error:
        raise RunError(f"{where}: {error}") from error


def _possible(requested: str) -> tuple[str, str | None]:
    """The mode that a run can be opened in, as far as a few seconds tell, and why no other."""
    mode = {"dryrun": "offline"}.get(given := os.environ.get("WANDB_MODE", ""), given)
    # For the variable is how programs are kept from wandb altogether, by tests for example.
    if mode == "disabled" or (mode == "offline" and requested == "online"):
        return mode, f"WANDB_MODE={given}"
    if requested == "online" and (silence := _silence()):
        return "offline", silence
    return requested, None


def _silence() -> str | None:
    """Why the server cannot be talked to; None if it answers."""
    import wandb

    server = wandb.setup().settings.base_url
    try:
        urlopen(server, timeout=PROBE_SECONDS).close()
    except HTTPError:
        return None  # an answer
    except OSError as error:
        cause = error.reason if isinstance(error, URLError) else error
        # wandb has certificates of its own.
        return None if isinstance(cause, ssl.SSLError) else f"{server} does not answer: {cause}"
    return None
