import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from .killed import PLAIN, SMALL, in_a_process, kill_and_resume, same, train
from .wandb_files import wandb_records

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.usefixtures("fresh_wandb")
def test_wandb_has_every_row_of_a_killed_run_once(tmp_path: Path) -> None:
    loggers = "logger=[csv,wandb]"
    killed, whole = kill_and_resume(tmp_path, signal.SIGKILL, 7, *PLAIN, loggers)
    assert len(list(killed.glob("wandb/offline-run-*/*.wandb"))) == 2
    rows, expected = (
        [
            {key: x for key, x in record["item"].items() if key not in ("_runtime", "_timestamp")}
            for record in wandb_records(run)["history"]
        ]
        for run in (killed, whole)
    )
    assert [row["_step"] for row in rows] == list(range(len(expected)))
    assert rows == expected


@pytest.mark.timeout(900)
def test_a_killed_process_leaves_what_another_goes_on_with(tmp_path: Path) -> None:
    same(*kill_and_resume(tmp_path, signal.SIGKILL, 4, *PLAIN))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(tmp_path: Path, number: int) -> None:
    every = "callbacks.last_checkpoint.every_n_steps=100"
    same(*kill_and_resume(tmp_path, number, 4, *PLAIN, every))


SLOW = pytest.mark.slow


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("number", "hook"),
    [
        (signal.SIGINT, "on_train_batch_start"),
        pytest.param(signal.SIGTERM, "on_train_batch_start", marks=SLOW),
        pytest.param(signal.SIGTERM, "on_validation_batch_start", marks=SLOW),
        pytest.param(signal.SIGINT, "on_train_end", marks=SLOW),
        pytest.param(signal.SIGTERM, "on_train_end", marks=SLOW),
    ],
)
def test_a_signal_to_the_workers_too_saves_and_the_run_goes_on(
    tmp_path: Path, number: int, hook: str
) -> None:
    more = ("callbacks.last_checkpoint.every_n_steps=100", "data.num_workers=2")
    same(*kill_and_resume(tmp_path, number, 4, *PLAIN, *more, hook=hook, group=True))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end", "on_train_end"])
def test_a_signal_after_the_last_batch_is_not_swallowed(tmp_path: Path, hook: str) -> None:
    same(*kill_and_resume(tmp_path, signal.SIGTERM, 8, "quantization=ptq", hook=hook))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("before", [1, 5, 8])
@pytest.mark.parametrize("quantization", ["none", "ptq", "qat"])
@pytest.mark.parametrize(
    "precision",
    [
        ["precision=fp32"],
        # With the seed 1 its int8 sums saturate on processors without VNNI, and the run fails.
        ["precision=fp16", "precision.init_scale=16777216", "seed=2"],
        ["precision=bf16"],
    ],
    ids=["fp32", "fp16", "bf16"],
)
def test_every_precision_and_quantization(
    tmp_path: Path, precision: list[str], quantization: str, before: int
) -> None:
    arguments = (*precision, f"quantization={quantization}", "data.num_workers=2")
    same(*kill_and_resume(tmp_path, signal.SIGKILL, before, *arguments))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_accumulated_gradients_are_never_cut_in_two(tmp_path: Path) -> None:
    more = ("trainer.accumulate_grad_batches=2", "data.num_samples=160", *PLAIN)
    same(*kill_and_resume(tmp_path, signal.SIGKILL, 9, *more))


def is_over(checkpoint: Path) -> bool:
    return torch.load(checkpoint, weights_only=True)["callbacks"]["LastCheckpoint"]["over"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("delay", [0.0, 1.0, 3.0])
def test_killed_while_it_converts_and_measures(tmp_path: Path, delay: float) -> None:
    program = "import sys; from bitladder.cli.main import main; sys.exit(main())"
    arguments = [*SMALL, "quantization=ptq", f"paths.runs={tmp_path / 'runs'}"]
    process = subprocess.Popen([sys.executable, "-c", program, "train", *arguments])
    while not any(is_over(path) for path in tmp_path.glob("runs/*/checkpoints/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(delay)
    process.kill()
    process.wait()
    (run,) = (tmp_path / "runs").iterdir()
    status, printed, error = in_a_process(tmp_path, ["resume", str(run)])
    assert (status, error) == (0, "")
    assert "step 9" in printed
    whole = train(tmp_path / "whole", "quantization=ptq")
    same(run, whole)
