import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from bitladder import LastCheckpoint, RandomState
from bitladder.errors import Interrupted, UserError

from .resuming import Data, Fit, Task, same

pytestmark = pytest.mark.filterwarnings("ignore")


slow = pytest.mark.slow
everywhere = [
    pytest.param(batches, marks=slow) for batches in range(27) if batches not in (4, 9, 26)
]


@pytest.mark.parametrize("batches", [4, 9, 26, *everywhere])
def test_a_fit_killed_after_any_batch_ends_as_the_one_that_was_not(
    tmp_path: Path, batches: int
) -> None:
    whole = Fit(tmp_path / "whole").go()
    killed = Fit(tmp_path / "killed").go(kill_after=batches)
    assert len(killed.seen) == batches
    resumed = killed.go(resume=True)
    assert len(resumed.seen) == 27 - batches
    same(resumed, whole)


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2},
        {"accumulate_grad_batches": 4, "every_n_steps": 2},
        {"val_check_interval": 3},
        {"val_check_interval": 1},
        {"check_val_every_n_epoch": 2},
        {"check_val_every_n_epoch": None, "val_check_interval": 4},
        {"max_steps": 20, "max_epochs": -1},
        {"plateau": True},
        {"every_n_steps": 100},
        {"every_n_steps": 4},
        {"limit_train_batches": 5},
        {"gradient_clip_val": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("batches", [12, pytest.param(2, marks=slow), pytest.param(9, marks=slow)])
def test_whatever_the_trainer_does_between_batches(
    tmp_path: Path, batches: int, options: dict[str, Any]
) -> None:
    whole = Fit(tmp_path / "whole").go(**options)
    killed = Fit(tmp_path / "killed").go(kill_after=batches, **options)
    same(killed.go(resume=True, **options), whole)


@pytest.mark.parametrize("batches", [3, 14, pytest.param(9, marks=slow)])
def test_workers_that_draw_draw_the_same(tmp_path: Path, batches: int) -> None:
    whole = Fit(tmp_path / "whole").go(workers=2)
    killed = Fit(tmp_path / "killed").go(kill_after=batches, workers=2)
    same(killed.go(resume=True, workers=2), whole)


@pytest.mark.parametrize("batches", [3, pytest.param(9, marks=slow), pytest.param(14, marks=slow)])
@pytest.mark.parametrize("options", [{}, {"val_check_interval": 4}], ids=str)
def test_workers_that_persist_start_at_another_moment_and_change_nothing(
    tmp_path: Path, batches: int, options: dict[str, Any]
) -> None:
    options |= {"workers": 1, "persistent": True}
    whole = Fit(tmp_path / "whole").go(**options)
    killed = Fit(tmp_path / "killed").go(kill_after=batches, **options)
    same(killed.go(resume=True, **options), whole)


def test_killed_twice_is_as_good_as_once(tmp_path: Path) -> None:
    whole = Fit(tmp_path / "whole").go()
    killed = Fit(tmp_path / "killed").go(kill_after=4)
    killed.go(resume=True, kill_after=6)
    killed.go(resume=True, kill_after=20)
    same(killed.go(resume=True), whole)


def test_a_checkpoint_of_more_processes_goes_on_and_says_so(tmp_path: Path) -> None:
    fit = Fit(tmp_path).go(kill_after=4)
    last = tmp_path / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)
    for callback, key in (("LastCheckpoint", "progress"), ("RandomState", "ranks")):
        assert len(saved["callbacks"][callback][key]) == 1
        saved["callbacks"][callback][key] *= 2
    torch.save(saved, last)
    with pytest.warns(UserWarning, match="is of 2 processes and these are 1: training goes on"):
        assert len(fit.go(resume=True).seen) == 23


def test_a_training_that_is_over_can_be_made_longer(tmp_path: Path) -> None:
    whole = Fit(tmp_path / "whole").go(plateau=True)
    shorter = Fit(tmp_path / "shorter").go(plateau=True, max_epochs=2)
    assert len(shorter.go(plateau=True, max_epochs=2, resume=True).seen) == 0
    same(shorter.go(plateau=True, resume=True), whole)


def test_a_run_that_early_stopping_ended_trains_no_more(tmp_path: Path) -> None:
    def stopping() -> EarlyStopping:
        return EarlyStopping("val/loss", stopping_threshold=100.0)

    fit = Fit(tmp_path).go(callbacks=(stopping(),))
    assert len(fit.seen) == 9
    rows = list(fit.rows)
    assert len(fit.go(callbacks=(stopping(),), resume=True).seen) == 0
    assert fit.rows == rows


def test_told_to_stop_it_saves_before_the_next_batch(tmp_path: Path) -> None:
    class Stop(L.Callback):
        def on_train_batch_end(
            self,
            trainer: L.Trainer,
            pl_module: L.LightningModule,
            outputs: Any,
            batch: Any,
            batch_idx: int,
        ) -> None:
            if trainer.global_step == 4:
                (last,) = (x for x in trainer.callbacks if isinstance(x, LastCheckpoint))  # type: ignore[attr-defined]
                last.stop(signal.SIGTERM)

    options: dict[str, Any] = {"accumulate_grad_batches": 2, "every_n_steps": 100}
    whole = Fit(tmp_path / "whole").go(**options)
    stopped = Fit(tmp_path / "stopped")
    listening = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as caught:
        stopped.go(callbacks=(Stop(),), **options)
    signal.signal(signal.SIGINT, listening)  # which Lightning has switched off
    interrupted = caught.value.__context__
    assert isinstance(interrupted, Interrupted)
    assert interrupted.signal == signal.SIGTERM
    assert torch.load(tmp_path / "stopped/checkpoints/last.ckpt")["global_step"] == 4
    same(stopped.go(resume=True, **options), whole)


def test_it_must_stand_first() -> None:
    trainer = L.Trainer(callbacks=[RandomState(), LastCheckpoint()], logger=False)
    with pytest.raises(UserError, match="must stand first"):
        trainer.fit(Task(), datamodule=Data())
    with pytest.raises(UserError, match="at least 1"):
        LastCheckpoint(every_n_steps=0)


@pytest.mark.parametrize("options", [{"save_last": True}, {"filename": "last"}], ids=str)
def test_no_other_callback_may_write_its_file(tmp_path: Path, options: dict[str, Any]) -> None:
    elsewhere = ModelCheckpoint(tmp_path / "elsewhere", **options)
    Fit(tmp_path / "fine").go(callbacks=(elsewhere,), max_epochs=1)
    folder = tmp_path / "clash" / "checkpoints"
    with pytest.raises(UserError, match=r"a ModelCheckpoint writes last\.ckpt, too"):
        Fit(tmp_path / "clash").go(callbacks=(ModelCheckpoint(folder, **options),))
