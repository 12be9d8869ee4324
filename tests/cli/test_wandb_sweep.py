"""What `wandb agent` makes of the documented sweep, by the agent's own code, without its server."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb import wandb_agent

from bitladder.cli import training
from bitladder.cli.compose import compose, open_source
from bitladder.cli.main import main
from bitladder.cli.validate import validate

from .wandb_files import wandb_records

pytestmark = pytest.mark.filterwarnings("ignore")

SWEEP = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "tracking" / "wandb_sweep.yaml").read_text()
)
CHOSEN: dict[str, Any] = {
    "optimizer.lr": 0.0123,
    "precision": "bf16",
    "quantization": "ptq",
    "quantization.skip": "[head]",
    "seed": 3,
}
SMALL = {
    "data": "synthetic",
    "model": "mlp",
    "model.hidden": [16, 8],
    "trainer.max_epochs": 1,
    "callbacks.progress": "null",
    "data.download": False,
}


@pytest.fixture
def agent(fresh_wandb: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> wandb_agent.Agent:
    """wandb's agent as its command line sets it up, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for key in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(key, str(tmp_path))  # to be as before when the test has ended
    monkeypatch.setenv("WANDB_SWEEP_ID", "sw33p")
    monkeypatch.setenv("WANDB_MODE", "offline")
    made = wandb_agent.Agent(api=None, queue=None, sweep_id="sw33p")
    made._sweep_command = list(SWEEP["command"])
    return made


def start(agent: wandb_agent.Agent, run_id: str, parameters: Mapping[str, Any]) -> None:
    """What a heartbeat's answer makes the agent do."""
    values = {key: {"value": value} for key, value in parameters.items()}
    command = {"type": "run", "run_id": run_id, "program": SWEEP["program"], "args": values}
    assert "exception" not in agent._process_command(command)


def started_by(
    agent: wandb_agent.Agent, parameters: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The command line that the agent would run; its environment is this process's then."""
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
            assert env["WANDB_RUN_ID"] == os.environ["WANDB_RUN_ID"]
            started.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
    start(agent, "ag3ntrun", parameters)
    return started[0]


def test_every_parameter_of_the_documented_sweep_is_one_of_ours() -> None:
    assert SWEEP["parameters"].keys() == CHOSEN.keys()


def test_the_agents_command_line_is_the_configuration_it_stands_for(
    agent: wandb_agent.Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = started_by(agent, CHOSEN, monkeypatch)
    assert command[:3] == ["/usr/bin/env", "bitladder", "train"]
    with open_source() as source:
        config = validate(compose(source, command[3:]))
    assert config.optimizer["lr"] == 0.0123
    assert config.precision_name == "bf16"
    assert config.quantization_name == "ptq"
    assert config.quantization["skip"] == ["head"]
    assert config.seed == 3
    assert config.logger["wandb"]["offline"] is False


def test_a_run_of_an_agent_is_the_one_that_its_sweep_waits_for(
    agent: wandb_agent.Agent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "measure", lambda *_: {})
    chosen = {"quantization": "none", "seed": 3, "optimizer.lr": 0.01, "data": "synthetic"}
    small = {key: value for key, value in SMALL.items() if key not in ("data", "data.download")}
    command = started_by(agent, chosen | small, monkeypatch)
    assert main(command[2:]) == 0
    (directory,) = (tmp_path / "runs").iterdir()
    records = wandb_records(directory)
    assert records["run"][0]["run_id"] == "ag3ntrun"
    assert records["run"][0]["sweep_id"] == "sw33p"
    logged: dict[str, Any] = {}
    for config in (records["run"][0].get("config", {}), *records["config"]):
        logged |= config.get("update", {})
    assert logged["optimizer"]["lr"] == 0.01
    assert logged["choices"]["quantization"] == "none"
    # wandb keeps what its server sent, under the keys of the sweep.
    assert logged["optimizer.lr"] == 0.01
    assert logged["quantization"] == "none"


@pytest.mark.slow
def test_the_agent_starts_a_run_that_ends_well(
    agent: wandb_agent.Agent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "bitladder"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom bitladder.cli.main import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    small = {key: value for key, value in SMALL.items() if key != "data.download"}
    start(agent, "ag3ntrun", {**CHOSEN, **small, "quantization.skip": "[]"})
    assert agent._run_processes["ag3ntrun"].wait(timeout=280) == 0
    (directory,) = (tmp_path / "runs").iterdir()
    assert wandb_records(directory)["run"][0]["sweep_id"] == "sw33p"
    assert (directory / "model_int8.pt2").exists()
