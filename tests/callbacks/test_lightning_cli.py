"""bitladder's parts in a program of LightningCLI, from its command line and its YAML."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.cli import LightningCLI

from bitladder import Fp16Precision, Quantization
from bitladder.data import Synthetic
from bitladder.quantization import ACTIVATION, WEIGHT, HistogramObserver, MovingAverageObserver

from .conftest import Researcher

PROGRAM = """
import torch
from lightning.pytorch.cli import LightningCLI
from torch import nn
import lightning as L

from bitladder.data import Synthetic


class Task(L.LightningModule):
    def __init__(self, width: int = 8):
        super().__init__()
        layers = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 4)]
        self.net = nn.Sequential(nn.Flatten(), *layers)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]).float(), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self.net(batch[0]).float(), batch[1]))

    def predict_step(self, batch, batch_idx):
        return self.net(batch[0])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


if __name__ == "__main__":
    cli = LightningCLI(Task, Synthetic)
    torch.save(cli.trainer.predict(cli.model, cli.datamodule.val_dataloader()), "int8.pt")
"""

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 2
  log_every_n_steps: 1
  logger:
    class_path: lightning.pytorch.loggers.CSVLogger
    init_args: {save_dir: ., name: logs, version: ""}
  plugins:
    - class_path: bitladder.Fp16Precision
      init_args: {init_scale: 1024.0}
data: {batch_size: 16}
"""


Parse = Callable[..., L.Trainer]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """The trainer that arguments on the command line make."""

    def parse(*arguments: str) -> L.Trainer:
        quiet = ["--trainer.accelerator=cpu", "--trainer.logger=false"]
        monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # for Lightning's own use
        monkeypatch.setattr(sys, "argv", ["program.py", *quiet, *arguments])
        return LightningCLI(Researcher, Synthetic, run=False, seed_everything_default=False).trainer

    return parse


def callback(parse: Parse, *arguments: str) -> Quantization:
    added = [f"--trainer.callbacks.{argument}" for argument in arguments]
    run = parse("--trainer.callbacks+=bitladder.Quantization", *added)
    (found,) = (x for x in vars(run)["callbacks"] if isinstance(x, Quantization))
    return found


def test_arguments_keep_their_types(parse: Parse) -> None:
    arguments = ["method=qat", "start=1", "freeze_observers=1.0", "validate_float=true"]
    found = callback(parse, *arguments)
    assert found.recipe.method == "qat"
    moments: tuple[Any, ...] = (found.schedule.start, found.schedule.freeze_observers)
    assert [type(x) for x in moments] == [int, float], "epochs and fractions are told by type"
    assert moments == (1, 1.0)
    assert found.validate_float


def test_patterns_are_a_list(parse: Parse) -> None:
    found = callback(parse, "skip=[head, 'conv*']", "only=[head]")
    assert (found.skip, found.only) == (("head", "conv*"), ("head",))


def test_observers_are_named_by_their_class_with_arguments(parse: Parse) -> None:
    recipe = callback(
        parse,
        "observer=bitladder.quantization.HistogramObserver",
        "observer.bins=512",
        "weight_observer=bitladder.quantization.MovingAverageObserver",
    ).recipe
    assert recipe.observer is not None
    observer = recipe.observer(ACTIVATION)
    assert isinstance(observer, HistogramObserver)
    assert observer.bins == 512
    assert isinstance(recipe.weight_observer(WEIGHT), MovingAverageObserver)


def test_a_precision_plugin_is_named_by_its_class(parse: Parse) -> None:
    run = parse("--trainer.plugins+=bitladder.Fp16Precision", "--trainer.plugins.init_scale=8")
    assert isinstance(run.precision_plugin, Fp16Precision)


@pytest.mark.parametrize(("argument", "says"), [("method=qtt", "qtt"), ("bits=4", "bits")])
def test_what_is_wrong_is_said(
    parse: Parse, capsys: pytest.CaptureFixture[str], argument: str, says: str
) -> None:
    with pytest.raises(SystemExit):
        callback(parse, argument)
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_a_program_trains_in_fp16_and_ends_int8(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "config.yaml").write_text(CONFIG)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    added = ["method=qat", "target=net", "validate_float=true"]
    done = subprocess.run(
        [sys.executable, "program.py", "fit", "--config=config.yaml"]
        + ["--trainer.callbacks+=bitladder.Quantization"]
        + [f"--trainer.callbacks.{argument}" for argument in added],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (artifact,) = tmp_path.rglob("model_int8.pt2")
    model = torch._inductor.aoti_load_package(str(artifact))
    data = Synthetic(batch_size=16)
    data.setup("fit")
    predicted = torch.load(tmp_path / "int8.pt")
    for (x, _), y in zip(data.val_dataloader(), predicted, strict=True):
        assert torch.equal(model(x), y)
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert {"val/loss", "float/val/loss"} <= set(metrics.read_text().splitlines()[0].split(","))
