"""Online runs where the server cannot be had."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb

from bitladder.cli import training
from bitladder.cli.main import main
from bitladder.cli.wandb_run import GuardedWandb, open_wandb
from bitladder.errors import RunError

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("fresh_wandb")]

NODE = {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p", "offline": False}
KEY = "0123456789" * 4


@pytest.fixture
def closed_port() -> str:
    """The address of a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture
def useless_server() -> Iterator[str]:
    """A server that answers, and knows nothing of wandb."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def opened(tmp_path: Path, offline: bool = False) -> GuardedWandb:
    return open_wandb(NODE | {"offline": offline}, "logger.wandb", {"save_dir": str(tmp_path)})


@pytest.mark.parametrize("token", ["3-1-unix-/nowhere/socket", "3-1-tcp-localhost-9", "nonsense"])
def test_a_service_that_is_gone_is_replaced_by_one_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("WANDB_SERVICE", token)  # as a parent that is over leaves it
    run = opened(tmp_path, offline=True)
    assert run.effective == "offline"
    run.log_metrics({"loss": 1.0}, 0)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_service_that_cannot_be_reached_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no socket")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(RunError, match=r"^logger\.wandb: no socket$"):
        opened(tmp_path, offline=True)


def test_a_server_that_does_not_answer_makes_the_run_offline_within_seconds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    closed_port: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", closed_port)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(training, "measure", lambda *_: {})
    started = time.monotonic()
    opened(tmp_path / "first")
    assert time.monotonic() - started < 15  # wandb itself would try for 90 s
    wandb.finish()
    small = ("data=synthetic", "model=mlp", "trainer.max_epochs=1", "callbacks.progress=null")
    place = f"paths.runs={tmp_path / 'runs'}"
    online = ("quantization=none", "logger=wandb", "logger.wandb.offline=false")
    assert main(["train", *small, place, *online]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "logger.wandb" in line]
    reason = f"{closed_port} does not answer: [Errno 111] Connection refused"
    assert said == [f"logger.wandb is offline, not online: {reason}"]
    (directory,) = (tmp_path / "runs").iterdir()
    (found,) = directory.glob("wandb/offline-run-*")
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["tracking"]["logger.wandb"] == {
        "requested": "online",
        "effective": "offline",
        "id": found.name.rpartition("-")[2],
        "reason": reason,
    }


def test_without_a_key_a_run_is_offline_at_once_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, useless_server: str
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", useless_server)
    logger = opened(tmp_path)
    assert (logger.requested, logger.effective) == ("online", "offline")
    assert logger.reason is not None
    assert "No API key configured" in logger.reason
    assert logger.experiment.offline


@pytest.mark.parametrize("mode", ["offline", "dryrun"])
def test_the_variable_of_wandb_keeps_a_run_offline_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    note = opened(tmp_path).note
    assert note == f"logger.wandb is offline, not online: WANDB_MODE={mode}"


def test_a_run_that_is_to_be_offline_is_so_quietly_and_leaves_the_variables_alone(
    tmp_path: Path,
) -> None:
    logger = opened(tmp_path, offline=True)
    assert logger.note is None
    assert logger.experiment.offline
    assert "WANDB_MODE" not in os.environ


def test_disabled_is_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = opened(tmp_path, offline=True)
    logger.log_metrics({"loss": 1.0}, step=1)
    assert logger.effective == "disabled"
    assert not (tmp_path / "wandb").exists()
