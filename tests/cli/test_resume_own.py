"""Runs of a task that nobody here wrote: what it keeps goes on, or is refused before it is lost."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest
import torch

from bitladder.cli.later import later_checkpoints
from bitladder.cli.main import main
from bitladder.runs import RunDirectory

from .killed import PLAIN, same, train

pytestmark = pytest.mark.filterwarnings("ignore")

OWN = ("task._target_=own_task.Own", "scheduler=none")


@pytest.fixture
def own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the task's module: the body of a subclass of `Classification`."""
    monkeypatch.setitem(sys.modules, "own_task", None)
    monkeypatch.delitem(sys.modules, "own_task")
    monkeypatch.syspath_prepend(tmp_path)

    def write(body: str) -> None:
        (tmp_path / "own_task.py").write_text(
            "import numpy as np\nimport torch\nfrom bitladder.tasks import Classification\n"
            f"class Own(Classification):\n{indent(body, '    ')}"
        )

    return write


def goes_on(tmp_path: Path, stopped: Callable[..., Path], *more: str, before: int = 4) -> Path:
    """A stopped run ends, when it goes on, as one that was never stopped. Returns the former."""
    run = stopped(*OWN, *more, before=before)
    assert main(["resume", str(run), "allow=[own_task]"]) == 0
    same(run, train(tmp_path / "whole", *PLAIN, *OWN, *more))
    return run


def test_optimizers_of_its_own(
    tmp_path: Path, stopped: Callable[..., Path], own_task: Callable[[str], None]
) -> None:
    """Two groups and a schedule, where the configuration has neither."""
    own_task("""
def configure_optimizers(self):
    head, *rest = self.parameters()
    groups = [{'params': [head], 'lr': 0.1}, {'params': rest}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    return [optimizer], [schedule]
""")
    goes_on(tmp_path, stopped)


def test_hyperparameters_that_are_objects(
    tmp_path: Path,
    stopped: Callable[..., Path],
    own_task: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    own_task("""
def __init__(self, margin=0.5, **kwargs):
    super().__init__(**kwargs)
    self.save_hyperparameters()
""")
    run = goes_on(tmp_path, stopped)
    said = "checkpoints leave out the hyperparameters net, optimizer: they are no plain values"
    assert capsys.readouterr().out.count(said) == 3  # the run, its resume and the other run
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    kept = {"margin": 0.5, "scheduler": None, "num_classes": 4, "label_smoothing": 0.0}
    assert checkpoint["hyper_parameters"] == kept


def test_objects_in_the_checkpoint_end_the_run_at_its_first(
    tmp_path: Path, own_task: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    own_task("""
def on_save_checkpoint(self, checkpoint):
    checkpoint['best'] = {'score': np.float64(0.5)}
""")
    run = train(tmp_path / "run", *PLAIN, *OWN, status=2)
    error = capsys.readouterr().err
    assert "a checkpoint cannot hold best.score, a numpy.float64: reading it would run" in error
    assert not list(run.glob("checkpoints/*"))


KEPT = [
    "+callbacks.kept._target_=lightning.pytorch.callbacks.ModelCheckpoint",
    "+callbacks.kept.filename='m-{step}'",
    "+callbacks.kept.monitor=val/loss",
    "+callbacks.kept.save_top_k=2",
    "callbacks.last_checkpoint.every_n_steps=100",
    "trainer.val_check_interval=0.34",  # of three batches
]


@pytest.mark.parametrize("before", [2, 5, 8])
def test_checkpoints_that_the_killed_run_wrote_later_are_written_again(
    tmp_path: Path,
    stopped: Callable[..., Path],
    own_task: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    finished: Path,
    before: int,
) -> None:
    own_task("pass")
    monkeypatch.setattr("bitladder.callbacks.LastCheckpoint._is_stopped", lambda *_: False)
    run = stopped(*OWN, *KEPT, before=before)
    mine = run / "checkpoints" / "mine.ckpt"
    known = sorted(run.glob("checkpoints/m-step=*.ckpt"))
    if (run / "checkpoints" / "last.ckpt").exists():
        shutil.copy(run / "checkpoints" / "last.ckpt", mine)
    other = run / "checkpoints" / "notes.ckpt"
    other.write_text("of the user's")
    teacher = run / "checkpoints" / "teacher.ckpt"
    shutil.copy(finished / "checkpoints" / "last.ckpt", teacher)
    assert main(["resume", str(run), "allow=[own_task]"]) == 0
    assert "is of a later step: the run writes it again" in capsys.readouterr().out
    assert known
    whole = train(tmp_path / "whole", *PLAIN, *OWN, *KEPT)
    same(run, whole)
    assert mine.exists() is (before > 3)
    mine.unlink(missing_ok=True)
    other.unlink()
    teacher.unlink()
    names, expected = (sorted(x.name for x in y.glob("checkpoints/*")) for y in (run, whole))
    assert names == expected


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_lists_tensors_and_generators_that_it_keeps(
    tmp_path: Path, stopped: Callable[..., Path], own_task: Callable[[str], None], device: str
) -> None:
    own_task(f"""
def on_fit_start(self):
    self.generator = torch.Generator('{device}').manual_seed(3)
    self.numpy = np.random.default_rng(3)
    self.losses, self.scale = [], torch.ones((), device='{device}')

def training_step(self, batch, batch_idx):
    x, y = batch
    noise = torch.randn(x.shape, device='{device}', generator=self.generator)
    loss = super().training_step((x + 0.1 * noise, y), batch_idx) * self.scale
    self.losses.append(loss.detach())
    self.scale = self.scale * self.numpy.uniform(0.9, 1)
    return loss

def on_train_epoch_end(self):
    assert all(x.device.type == '{device}' for x in self.losses)
    self.log('train/collected', torch.stack(self.losses).mean())
    self.losses.clear()
""")
    on = ["trainer=gpu", "trainer.deterministic=true"] if device == "cuda" else []
    goes_on(tmp_path, stopped, *on)


def test_callbacks_that_keep_what_they_count(
    tmp_path: Path, stopped: Callable[..., Path], own_task: Callable[[str], None]
) -> None:
    own_task("pass")
    with (tmp_path / "own_task.py").open("a") as file:
        file.write("""
import lightning as L

class Count(L.Callback):
    def __init__(self):
        self.batches = 0
    def on_train_batch_end(self, trainer, module, *_):
        self.batches += 1
        module.log('counted', float(self.batches))
""")
    goes_on(tmp_path, stopped, "+callbacks.count._target_=own_task.Count", before=5)


def test_a_resume_that_is_refused_removes_nothing(
    tmp_path: Path,
    stopped: Callable[..., Path],
    own_task: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own_task("pass")
    monkeypatch.setattr("bitladder.callbacks.LastCheckpoint._is_stopped", lambda *_: False)
    run = stopped(*OWN, *KEPT, before=5)
    before = sorted(run.rglob("*.ckpt"))
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert later_checkpoints(RunDirectory(run), content)
    metrics = run / "metrics.csv"
    metrics.write_text(metrics.read_text().replace("0.", "1.", 1))
    assert main(["resume", str(run), "allow=[own_task]"]) == 2
    assert sorted(run.rglob("*.ckpt")) == before
