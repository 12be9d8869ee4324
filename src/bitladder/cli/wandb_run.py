"""A run of Weights & Biases: online where it was asked for and can be, offline otherwise."""

import logging
import os
import re
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from glob import escape
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
from bitladder.cli.wandb_log import cut_back
from bitladder.errors import RunError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

log = logging.getLogger(__name__)

Row = dict[str, float]

UNWRITTEN_SECONDS = 30.0
"""A row that is older is in wandb's file, which it writes every 15 seconds."""

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
        self._recent: deque[tuple[float, int, int | None, Row]] = deque()

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

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Record metrics, and remember them until wandb has surely written them."""
        if rank() == 0:
            now = time.monotonic()
            while self._recent and self._recent[0][0] < now - UNWRITTEN_SECONDS:
                self._recent.popleft()
            plain: Row = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
            self._recent.append((now, self._rows, step, plain))
        super().log_metrics(metrics, step)

    @property
    def _rows(self) -> int:
        """How many rows of history there are."""
        return int(getattr(self.experiment, "step", 0) or 0)

    def state_dict(self) -> dict[str, Any]:
        """How many rows of history there are, and those that a kill of wandb would lose."""
        if rank() > 0:
            return {"step": 0}
        recent = [[number, step, row] for _, number, step, row in self._recent]
        return {"step": self._rows, "recent": recent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Number the rows on from where the checkpoint was, each once and none missing.

        Offline, rows after it go from the segments of the processes before; a server keeps those
        that it has, which were the same. Rows that wandb held in memory are recorded anew.
        """
        if rank() == 0:
            self.attempt(self._go_on, state_dict["step"], state_dict.get("recent", ()))

    def _go_on(self, rows: int, recent: Sequence[tuple[int, int | None, Row]]) -> None:
        there = self._rows  # those on the server
        if self.effective == "offline":
            there = max((cut_back(path, rows) for path in self._segments_before()), default=0)
        missing = [x for x in recent if there <= x[0] < rows]
        for number, step, row in missing:
            self.experiment.log({}, step=number)
            super().log_metrics(row, step)
        self.experiment.log({}, step=rows)
        if there + len(missing) < rows:
            log.warning("%s lacks rows %d to %d", self.label, there, rows - len(missing) - 1)

    def _segments_before(self) -> list[Path]:
        """The logs of the processes before; no links, which may lead out of the run's directory."""
        segment, name = Path(self.experiment.dir).parent, escape(str(self.version))
        return [
            path
            for path in sorted(segment.parent.glob(f"*run-*-{name}/run-{name}.wandb"))
            if path.parent != segment and not path.is_symlink() and not path.parent.is_symlink()
        ]

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
                _begin(logger)
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


def _begin(logger: WandbLogger) -> None:
    """Open the logger's run, by a service of our own where the one that we inherited is gone."""
    import wandb

    for is_last in (False, True):
        try:
            _ = logger.experiment
            return
        except wandb.Error:
            raise
        except Exception as error:  # those of a connection to the service are none of wandb's own
            # By this variable a process tells its children of its service, which ends with it.
            inherited = os.environ.pop("WANDB_SERVICE", None)
            if is_last or inherited is None:
                raise wandb.Error(str(error) or type(error).__name__) from error


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
