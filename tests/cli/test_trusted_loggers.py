from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitladder.cli.compose import compose, open_source
from bitladder.cli.configs import conf_dir, groups
from bitladder.cli.schema import Config
from bitladder.cli.trusted_loggers import check_loggers, resume_command
from bitladder.errors import UserError
from bitladder.runs import RunDirectory

WANDB = {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p"}
MLFLOW = {"_target_": "lightning.pytorch.loggers.MLFlowLogger"}


@pytest.mark.parametrize("choice", groups(conf_dir())["logger"])
def test_the_loggers_that_the_program_configures_need_no_word(choice: str) -> None:
    with open_source() as source:
        check_loggers(compose(source, [f"logger={choice}"]), ())


@pytest.mark.parametrize("offline", [{}, {"offline": False}, {"offline": None}, {"offline": "yes"}])
def test_wandb_sends_nothing(offline: dict[str, Any]) -> None:
    check_loggers({"logger": {"w": WANDB | {"offline": True}}}, ())
    with pytest.raises(UserError, match=r"^logger\.w sends to wandb's servers.*trust_loggers=true"):
        check_loggers({"logger": {"w": WANDB | offline}}, ())
    with pytest.raises(UserError, match=r"^logger\.csv\.prefix sends"):
        check_loggers({"logger": {"csv": {"prefix": WANDB | offline}}}, ())


@pytest.mark.parametrize("folder", ["src", "/etc", "../mlflow", "sqlite:///x"])
def test_mlflow_writes_to_the_store_of_the_folder_one_is_in(folder: str) -> None:
    check_loggers({"logger": {"m": MLFLOW}, "paths": {"mlflow": "mlflow"}}, ())
    check_loggers({"logger": {"m": MLFLOW}, "paths": {}}, ())
    with pytest.raises(UserError, match=rf"^paths\.mlflow={folder}: .*trust_loggers=true"):
        check_loggers({"logger": {"m": MLFLOW}, "paths": {"mlflow": folder}}, ())
    check_loggers({"logger": {"w": WANDB | {"offline": True}}, "paths": {"mlflow": folder}}, ())


def test_what_was_told_to_send_is_told_so_again(config: Callable[..., Config]) -> None:
    run = RunDirectory(Path("my runs/one"))
    assert resume_command(config(), run) == "bitladder resume 'my runs/one'"
    online = config(logger={"wandb": WANDB | {"offline": False}})
    assert resume_command(online, run) == "bitladder resume 'my runs/one' trust_loggers=true"


@pytest.mark.parametrize(
    ("directory", "command"),
    [
        (RunDirectory(Path("runs/a b")), "bitladder resume 'runs/a b'"),
        (RunDirectory(Path("-q/run")), "bitladder resume ./-q/run"),
        (RunDirectory(Path("runs/a"), True), "bitladder resume runs/a trust_links=true"),
    ],
)
def test_what_to_type_is_taken_as_it_is_printed(
    configure: Callable[..., Config], directory: RunDirectory, command: str
) -> None:
    assert resume_command(configure("logger=csv"), directory) == command
