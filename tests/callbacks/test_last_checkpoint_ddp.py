"""Two processes that draw different numbers: a fit that was killed ends as the one that was not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
import lightning as L
import torch

from callbacks.resuming import Fit, same

torch.set_num_threads(1)


class Uneven(L.Callback):
    def on_train_batch_start(self, trainer, *_):
        torch.rand(1 + trainer.global_rank)


options = {"devices": 2, "strategy": "ddp", "callbacks": (Uneven(),)}
killed = Fit(Path("killed")).go(kill_after=int(sys.argv[1]), **options)
killed.go(resume=True, **options)
whole = Fit(Path("whole")).go(**options)
same(killed, whole)
Path(f"same{torch.distributed.get_rank()}").touch()
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("batches", [2, 5, 7])
def test_every_rank_goes_on_with_its_own_numbers_and_sums(tmp_path: Path, batches: int) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "program.py", str(batches)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.glob("same*")) == ["same0", "same1"]
