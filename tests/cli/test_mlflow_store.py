import os
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


@pytest.mark.parametrize("by", ["key", "variable"])
def test_another_store_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.chdir(tmp_path)
    named = f"sqlite:///{tmp_path}/named.db"
    node = dict(NODE)
    if by == "variable":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    else:
        node["tracking_uri"] = named
    open_mlflow(node, "logger.mlflow", {}, tmp_path / "ours")
    assert [path.name for path in tmp_path.iterdir()] == ["named.db"]
    # What was no variable before is none for the next run of this process.
    assert os.environ.get("MLFLOW_TRACKING_URI") == (named if by == "variable" else None)


def test_a_store_that_mlflow_refuses_is_one_line(tmp_path: Path) -> None:
    refused = NODE | {"tracking_uri": f"file:{tmp_path}"}
    with pytest.raises(UserError, match=r"logger\.mlflow: file:.*maintenance mode"):
        open_mlflow(refused, "logger.mlflow", {}, tmp_path)
