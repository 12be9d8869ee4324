from collections.abc import Callable
from pathlib import Path

import pytest

from bitladder.cli import mlflow_store
from bitladder.cli.mlflow_store import open_mlflow
from bitladder.cli.rules import mlflow_installed
from bitladder.cli.schema import Config
from bitladder.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")

NODE = {"_target_": "lightning.pytorch.loggers.MLFlowLogger", "experiment_name": "it"}


def test_a_package_that_is_missing_is_one_line_with_the_extra(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("logger=mlflow")
    assert mlflow_installed(config) is None
    monkeypatch.setattr(mlflow_store, "find_spec", lambda name: None if name == "mlflow" else 1)
    assert mlflow_installed(config) == "logger.mlflow needs mlflow: pip install 'bitladder[mlflow]'"
    assert mlflow_installed(configure("logger=csv")) is None


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Not a directory; write paths\.mlflow=FOLDER"):
        open_mlflow(NODE, "logger.mlflow", {}, tmp_path / "file" / "mlflow")


def test_another_store_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = NODE | {"tracking_uri": f"sqlite:///{tmp_path}/named.db"}
    open_mlflow(named, "logger.mlflow", {}, tmp_path / "ours")
    assert (tmp_path / "named.db").exists()
    assert not (tmp_path / "ours").exists()


def test_a_store_that_mlflow_refuses_is_one_line(tmp_path: Path) -> None:
    refused = NODE | {"tracking_uri": f"file:{tmp_path}"}
    with pytest.raises(UserError, match=r"logger\.mlflow: file:.*maintenance mode"):
        open_mlflow(refused, "logger.mlflow", {}, tmp_path)
