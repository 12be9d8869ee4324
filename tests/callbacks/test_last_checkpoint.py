from pathlib import Path
from typing import Any

import pytest

from .resuming import Fit, same

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


def test_killed_twice_is_as_good_as_once(tmp_path: Path) -> None:
    whole = Fit(tmp_path / "whole").go()
    killed = Fit(tmp_path / "killed").go(kill_after=4)
    killed.go(resume=True, kill_after=6)
    killed.go(resume=True, kill_after=20)
    same(killed.go(resume=True), whole)
