import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bitladder.cli.compose import compose, open_source
from bitladder.cli.schema import Config
from bitladder.cli.validate import validate


@pytest.fixture
def configure() -> Callable[..., Config]:
    """Composes and validates: configure("model=mlp", "seed=2")."""

    def make(*overrides: str) -> Config:
        with open_source() as source:
            return validate(compose(source, overrides))

    return make


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Replaces the training by one that keeps the configurations it got."""
    configs: list[Config] = []

    def train(config: Config) -> int:
        configs.append(config)
        return 0

    training = ModuleType("bitladder.cli.training")
    training.__dict__["train"] = train
    monkeypatch.setitem(sys.modules, training.__name__, training)
    return configs


@pytest.fixture
def config() -> Callable[..., Config]:
    """A configuration by hand: config(trainer={"max_epochs": 3})."""

    def make(**changes: Any) -> Config:
        values: dict[str, Any] = {
            "seed": 1,
            "name": "test",
            "data": {"_target_": "bitladder.data.Digits", "batch_size": 64},
            "model": {"_target_": "bitladder.models.MLP"},
            "task": {"_target_": "bitladder.tasks.Classification"},
            "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True},
            "precision": {"_target_": "bitladder.precision.Fp32Precision"},
            "quantization": {"method": "none"},
            "trainer": {"_target_": "lightning.Trainer", "accelerator": "cpu", "max_epochs": 10},
            "paths": {"runs": "runs", "sweeps": "sweeps"},
        }
        return Config.model_validate(values | changes)

    return make


@pytest.fixture
def fresh_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """wandb as in a new process without a key; it reads its variables once, and keeps them."""
    import wandb

    wandb.teardown()  # forgets its service's variable, which would be put back at the end
    for key in [key for key in os.environ if key.startswith("WANDB_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    wandb.finish()
    wandb.teardown()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run of an MLP in float, its rungs not measured: copy it before changing it."""
    from bitladder.cli import training
    from bitladder.cli.main import main

    runs = tmp_path_factory.mktemp("finished")
    small = ("data=synthetic", "model=mlp", "model.hidden=[16]", "trainer.max_epochs=2")
    plain = ("quantization=none", "logger=none", "callbacks.progress=null", "optimizer.lr=0.01")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setattr(training, "measure", lambda *_: {})
        assert main(["train", *small, *plain, f"paths.runs={runs}"]) == 0
    (directory,) = runs.iterdir()
    return directory


@pytest.fixture(scope="session")
def quantized(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What ``bitladder quantize`` made of it, and what it printed: copy it before changing it."""
    from bitladder.cli.main import main

    runs = tmp_path_factory.mktemp("quantized")
    with redirect_stdout(io.StringIO()) as printed:
        arguments = [f"run={finished}", f"paths.runs={runs}", "quantization.calibration_batches=3"]
        assert main(["quantize", *arguments]) == 0
    (directory,) = runs.iterdir()
    return directory, printed.getvalue()


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The completed run copied to another place, to be changed there."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the compilation of the rungs, which takes seconds."""
    from bitladder.cli import training

    monkeypatch.setattr(training, "measure", lambda *_: {})


@pytest.fixture
def stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unmeasured: None
) -> Callable[..., Path]:
    """A run that ended before one of its batches, as if it had been killed there."""
    from bitladder.callbacks import FiniteGuard

    from .killed import PLAIN, train

    def make(*arguments: str, before: int = 4) -> Path:
        check = FiniteGuard.on_train_batch_start

        def kill(self: FiniteGuard, trainer: Any, *rest: Any) -> None:
            if trainer.fit_loop.epoch_loop.batch_progress.total.completed == before:
                raise KeyboardInterrupt
            check(self, trainer, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(FiniteGuard, "on_train_batch_start", kill)
            return train(tmp_path / "stopped", *PLAIN, *arguments, status=130)

    return make
