from collections.abc import Callable
from pathlib import Path

import pytest

from bitladder.cli import resuming
from bitladder.cli.logs import last_wandb_run
from bitladder.cli.main import main
from bitladder.cli.schema import Config
from bitladder.runs import RunDirectory

from .killed import PLAIN, same, train
from .resumed import changed, error_of

pytestmark = pytest.mark.filterwarnings("ignore")

ONLINE = """logger:
  wandb:
    _target_: lightning.pytorch.loggers.WandbLogger
    entity: somebody
    offline: false
"""
SERVER = """logger:
  mlflow:
    _target_: lightning.pytorch.loggers.MLFlowLogger
    tracking_uri: http://evil.example
"""


@pytest.mark.parametrize("logger", [ONLINE, ONLINE.replace("    offline: false\n", ""), SERVER])
def test_nothing_is_sent_unless_the_user_says_so(
    stopped: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logger: str,
) -> None:
    run = stopped()
    changed(run, "logger:\n", logger)
    error = error_of(capsys, str(run))
    assert error.endswith("; write trust_loggers=true if this run is yours")
    seen: list[Config] = []
    monkeypatch.setattr(resuming, "assemble", lambda config: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["resume", str(run), "trust_loggers=true"])
    assert {"wandb", "mlflow"} & seen[0].logger.keys()


@pytest.mark.usefixtures("fresh_wandb")
def test_a_wandb_run_of_ones_own_goes_on_online(
    stopped: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    run = stopped("logger=[csv,wandb]", "logger.wandb.offline=false", before=5)
    go_on = f"bitladder resume {run} trust_loggers=true"
    assert capsys.readouterr().err == f"bitladder: interrupted; go on with: {go_on}\n"
    assert "logger.wandb sends to wandb's servers" in error_of(capsys, str(run))
    assert main(go_on.split()[1:]) == 0
    assert "logger.wandb is offline, not online" in capsys.readouterr().out  # so it tried
    first, second = run.glob("wandb/offline-run-*/*.wandb")
    assert first.name == second.name


@pytest.mark.usefixtures("fresh_wandb")
def test_a_run_with_every_logger_goes_on_without_a_further_word(
    tmp_path: Path, stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = stopped("logger=[default,mlflow]", before=5)
    assert main(["resume", str(run)]) == 0
    same(run, train(tmp_path / "whole", *PLAIN))
    first, second = run.glob("wandb/offline-run-*/*.wandb")
    assert first.name == second.name


def test_a_wandb_run_keeps_its_id(tmp_path: Path) -> None:
    assert last_wandb_run(RunDirectory(tmp_path)) is None
    segment = tmp_path / "wandb" / "offline-run-20261122_204500-my-k3x9ab-1"
    segment.mkdir(parents=True)
    assert last_wandb_run(RunDirectory(tmp_path)) is None
    (segment / "run-my-k3x9ab.wandb").touch()
    (tmp_path / "wandb" / "latest-run").symlink_to(segment.name)
    assert last_wandb_run(RunDirectory(tmp_path)) == "my-k3x9ab"
