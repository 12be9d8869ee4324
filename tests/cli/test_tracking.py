"""A run's figures read back from every tool's own files."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import wandb
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams

from bitladder.cli import training
from bitladder.cli.loggers import sweep_of
from bitladder.cli.main import main
from bitladder.cli.schema import Config
from bitladder.cli.tracking import figures_of, log_figures
from bitladder.cli.wandb_run import open_wandb
from bitladder.report.run_report import run_page
from bitladder.runs import RunDirectory, Rung, RunRecord

from .wandb_files import wandb_records

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = (
    "data=synthetic",
    "model=mlp",
    "model.hidden=[16]",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "optimizer.lr=0.01",
    "callbacks.progress=null",
    "quantization=none",
)
RUNGS = {
    "float": Rung(
        metrics={"test/accuracy": 0.75},
        size_bytes=2048,
        latency_ms={"batch_1": 0.5, "batch_32": 2.0},
    ),
    "int8": Rung(
        metrics={"test/accuracy": 0.625},
        size_bytes=512,
        latency_ms={"batch_1": 0.25, "batch_32": 1.0},
        artifact="model_int8.pt2",
    ),
}
COLUMNS = {
    "float/test/accuracy": 0.75,
    "float/size_bytes": 2048,
    "float/latency_ms/batch_1": 0.5,
    "float/latency_ms/batch_32": 2.0,
    "int8/test/accuracy": 0.625,
    "int8/size_bytes": 512,
    "int8/latency_ms/batch_1": 0.25,
    "int8/latency_ms/batch_32": 1.0,
}

Points = dict[str, list[tuple[int, float]]]


def measured(parts: Any, directory: RunDirectory, examples: Any) -> dict[str, Rung]:
    """Stands for the measuring of the rungs, which takes seconds."""
    directory.int8_artifact.write_bytes(b"a model")
    return RUNGS


@dataclass(frozen=True)
class Tracked:
    directory: RunDirectory
    mlflow: Path


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """One run of a sweep called `ladder`, with every logger."""
    folder = tmp_path_factory.mktemp("tracked")
    store = folder / "mlflow"
    places = (f"paths.sweeps={folder}", f"paths.runs={folder / 'ladder'}", f"paths.mlflow={store}")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setattr(training, "measure", measured)
        assert main(["train", *SMALL, *places, "logger=[default,mlflow]"]) == 0
    (path,) = (folder / "ladder").iterdir()
    return Tracked(RunDirectory(path), store)


def wandb_points(directory: Path) -> Points:
    points: Points = {}
    for record in wandb_records(directory)["history"]:
        item = record["item"]
        for key, value in item.items():
            if not key.startswith(("_", "trainer/", "report/")):
                points.setdefault(key, []).append((item["trainer/global_step"], value))
    return points


def tensorboard(directory: RunDirectory) -> EventAccumulator:
    return EventAccumulator(str(directory.tensorboard), size_guidance={"scalars": 0}).Reload()


def tensorboard_points(directory: RunDirectory) -> Points:
    events = tensorboard(directory)
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def mlflow_run(store: Path) -> tuple[Any, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    experiment = client.get_experiment_by_name("bitladder")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def mlflow_points(store: Path) -> Points:
    client, run = mlflow_run(store)
    return {
        key: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
    }


def test_every_tool_has_the_values_of_the_csv_and_no_step_twice(tracked: Tracked) -> None:
    metrics = RunRecord.read(tracked.directory.path).metrics
    expected = {
        key: list(zip(series.steps, series.values, strict=True)) for key, series in metrics.items()
    }
    assert {"train/loss_step", "val/accuracy", "lr-AdamW/pg1", *COLUMNS} <= expected.keys()
    for points in (
        tensorboard_points(tracked.directory),
        wandb_points(tracked.directory.path),
        mlflow_points(tracked.mlflow),
    ):
        assert points.keys() == expected.keys()
        for key, values in points.items():
            steps = [step for step, _ in values]
            assert steps == [step for step, _ in expected[key]], key
            # Lightning adds the epoch to every call, of which a step may have several.
            assert len(set(steps)) == len(steps) or key == "epoch", key
            wanted = [value for _, value in expected[key]]
            assert [value for _, value in values] == pytest.approx(wanted, rel=1e-6), key


def test_the_rungs_are_columns_of_every_tool(tracked: Tracked) -> None:
    summary: dict[str, Any] = {}
    for record in wandb_records(tracked.directory.path)["summary"]:
        summary |= record["update"]
    run = mlflow_run(tracked.mlflow)[1]
    last = {key: values[-1][1] for key, values in tensorboard_points(tracked.directory).items()}
    for found in (summary, run.data.metrics, last):
        assert {key: found[key] for key in COLUMNS} == COLUMNS


def test_tensorboard_compares_hyperparameters_and_has_no_junk(tracked: Tracked) -> None:
    events = tensorboard(tracked.directory)
    assert "hp_metric" not in events.Tags()["scalars"]
    content = events.PluginTagToContent(hparams.PLUGIN_NAME)
    # Of an experiment's summary TensorBoard would take the first run's columns for all.
    assert content.keys() == {hparams.SESSION_START_INFO_TAG, hparams.SESSION_END_INFO_TAG}
    start = hparams.parse_session_start_info_plugin_data(content[hparams.SESSION_START_INFO_TAG])
    assert start.hparams["precision"].string_value == "fp32"
    assert start.hparams["quantization"].string_value == "none"
    assert start.hparams["optimizer/lr"].number_value == 0.01


def test_wandb_has_name_group_tags_job_type_and_exit_code(tracked: Tracked) -> None:
    records = wandb_records(tracked.directory.path)
    run = records["run"][0]
    assert run["display_name"] == tracked.directory.path.name
    assert run["run_group"] == "ladder"
    assert run["tags"] == ["fp32", "none"]
    assert run["job_type"] == "train"
    assert run["project"] == "bitladder"
    assert records["exit"][0].get("exit_code", 0) == 0


def test_the_whole_configuration_is_in_wandb_and_mlflow(tracked: Tracked) -> None:
    config = yaml.safe_load(tracked.directory.config.read_text())
    logged: dict[str, Any] = {}
    for record in wandb_records(tracked.directory.path)["config"]:
        logged |= record["update"]
    assert {key: logged[key] for key in config} == config
    client, run = mlflow_run(tracked.mlflow)
    assert run.data.params["optimizer/lr"] == "0.01"
    assert run.data.params["choices/model"] == "mlp"
    kept = Path(client.download_artifacts(run.info.run_id, "config.yaml"))
    assert yaml.safe_load(kept.read_text()) == config


def test_mlflow_has_name_tags_status_and_the_artifact(tracked: Tracked) -> None:
    client, run = mlflow_run(tracked.mlflow)
    assert run.info.run_name == tracked.directory.path.name
    assert run.info.status == "FINISHED"
    tags = {key: run.data.tags[key] for key in ("precision", "quantization", "sweep")}
    assert tags == {"precision": "fp32", "quantization": "none", "sweep": "ladder"}
    names = [file.path for file in client.list_artifacts(run.info.run_id, "model")]
    assert names == ["model/model_int8.pt2"]


def test_the_artifact_is_one_of_wandbs_offline_too(tracked: Tracked) -> None:
    artifact, report = wandb_records(tracked.directory.path)["artifact"]
    assert report["type"] == "report"
    (page,) = report["manifest"]["contents"]
    assert Path(page["local_path"]) == tracked.directory.report
    assert artifact["type"] == "model"
    assert artifact["name"] == "digits-fp32-none-s1-model"
    (file,) = artifact["manifest"]["contents"]
    assert Path(file["local_path"]) == tracked.directory.int8_artifact
    assert file["path"] == "model_int8.pt2"


def test_the_manifest_says_how_wandb_runs(tracked: Tracked) -> None:
    manifest = json.loads(tracked.directory.manifest.read_text())
    (found,) = tracked.directory.wandb.glob("offline-run-*")
    assert manifest["tracking"] == {
        "logger.wandb": {
            "requested": "offline",
            "effective": "offline",
            "id": found.name.rpartition("-")[2],
        }
    }


def run(tmp_path: Path, *arguments: str) -> int:
    places = (f"paths.{key}={tmp_path / key}" for key in ("runs", "sweeps", "mlflow"))
    return main(["train", *SMALL, *places, *arguments])


def only_run(tmp_path: Path) -> RunDirectory:
    (path,) = (tmp_path / "runs").iterdir()
    return RunDirectory(path)


def test_a_run_that_fails_after_its_training_is_failed_in_every_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "model_float.pt2")

    monkeypatch.setattr(training, "measure", full)
    assert run(tmp_path, "logger=[default,mlflow]") == 1
    directory = only_run(tmp_path)
    assert wandb_records(directory.path)["exit"][0]["exit_code"] == 1
    assert mlflow_run(tmp_path / "mlflow")[1].info.status == "FAILED"
    content = tensorboard(directory).PluginTagToContent(hparams.PLUGIN_NAME)
    assert content.keys() == {hparams.SESSION_START_INFO_TAG}


def test_wandb_that_fails_in_mid_run_costs_its_own_record_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise wandb.Error("the service is gone")

    monkeypatch.setattr(training, "measure", measured)
    monkeypatch.setattr("wandb.Run.log", broken)
    assert run(tmp_path, "logger=[csv,wandb]") == 0
    directory = only_run(tmp_path)
    log = directory.log.read_text()
    assert log.count("logger.wandb lacks a part of this run: Error: the service is gone") == 1
    metrics = RunRecord.read(directory.path).metrics
    assert len(metrics["train/loss_step"]) == 12
    assert metrics.keys() >= COLUMNS.keys()


def test_runs_of_one_process_have_a_wandb_run_each(
    fresh_wandb: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "measure", measured)
    # As an agent of wandb's sets it for the one run that it starts.
    monkeypatch.setenv("WANDB_RUN_ID", "shared")
    # Hydra's own sweeper runs its jobs in this process.
    assert run(tmp_path, "-m", "hydra/sweeper=basic", "logger=wandb", "seed=1,2,3") == 0
    (sweep,) = (tmp_path / "sweeps").iterdir()
    found = [wandb_records(path)["run"][0] for path in sweep.iterdir() if path.is_dir()]
    assert len({one["run_id"] for one in found} | {"shared"}) == 4
    assert {one["run_group"] for one in found} == {sweep.name}


def test_a_run_in_the_folder_of_a_sweep_is_a_part_of_it(
    tmp_path: Path, config: Callable[..., Config]
) -> None:
    def named(folder: Path) -> str | None:
        return sweep_of(config(paths={"runs": str(folder), "sweeps": str(tmp_path / "sweeps")}))

    assert named(tmp_path / "runs") is None
    assert named(tmp_path / "sweeps" / "ladder") == "ladder"
    elsewhere = tmp_path / "elsewhere"
    assert named(elsewhere) is None
    elsewhere.mkdir()
    (elsewhere / "sweep.json").touch()
    assert named(elsewhere) == "elsewhere"


@pytest.mark.parametrize("choice", ["none", "csv", "[csv,tensorboard]"])
def test_each_logger_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    monkeypatch.setattr(training, "measure", measured)
    assert run(tmp_path, f"logger={choice}") == 0
    directory = only_run(tmp_path)
    assert directory.metrics.exists() == ("csv" in choice)
    assert directory.tensorboard.exists() == ("tensorboard" in choice)
    assert not directory.wandb.exists()


def test_a_logger_is_taken_out_of_the_default(configure: Callable[..., Config]) -> None:
    assert configure().logger.keys() == {"csv", "tensorboard", "wandb"}
    assert configure("~logger.wandb").logger.keys() == {"csv", "tensorboard"}
    assert configure("logger.wandb=null").logger.keys() == {"csv", "tensorboard"}


def test_every_figure_of_the_report_is_a_chart_of_wandb(tracked: Tracked) -> None:
    page = run_page(RunRecord.read(tracked.directory.path))
    figures = figures_of(page)
    assert len(figures) == sum(len(section.figures) for section in page.sections) > 1
    assert "learning_curves/loss" in figures
    (log,) = tracked.directory.wandb.glob("offline-run-*")
    for name in figures:
        folder = log / "files" / "media" / "plotly" / "report"
        (chart,) = folder.glob(f"{name}_*.plotly.json")
        assert json.loads(chart.read_text())["data"]


def test_figures_are_charts_of_wandb(fresh_wandb: None, tmp_path: Path) -> None:
    node = {"_target_": "lightning.pytorch.loggers.WandbLogger", "offline": True}
    logger = open_wandb(node, "logger.wandb", {"save_dir": str(tmp_path)})
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    log_figures([logger], {"curves": figure})
    wandb.finish()
    (history,) = wandb_records(tmp_path)["history"]
    assert history["item"]["report/curves._type"] == "plotly-file"
    (saved,) = tmp_path.glob("wandb/offline-run-*/files/media/plotly/report/*.json")
    assert json.loads(saved.read_text())["data"][0]["type"] == "scatter"
