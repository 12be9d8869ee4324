"""What is damaged, who reads it, and what counts as right."""

import gzip
import random
import struct
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from mutate import damage_bytes, damage_file, damage_text

from bitladder.callbacks import FiniteGuard, Quantization
from bitladder.cli import evaluating, reproducing, training
from bitladder.cli.checkpoint import load_weights
from bitladder.cli.main import main
from bitladder.cli.reopen import reopen
from bitladder.data.idx import read_idx
from bitladder.errors import RunError
from bitladder.quantization.artifacts.open import open_artifact
from bitladder.quantization.trees import tensors
from bitladder.runs import RunRecord

Target = Callable[[Path, random.Random], int]
"""Damages a copy of a run, reads it, and gives an exit status; an AssertionError is a finding."""

OVERRIDES = (
    "data=synthetic", "model=mlp", "model.hidden=[16,8]", "trainer.max_epochs=2", "seed=3",
    "optimizer.lr=1e-3", "quantization=qat", "quantization.skip=[layers.*]", "precision=bf16",
    "quantization/observer=mse", "scheduler=none", "callbacks=[default,numerics]", "logger=csv",
    "~callbacks.progress", "+trainer.limit_train_batches=3", "quantization.weights.bits=4",
    "experiment=fashion_mnist", "quantization.start=0.5", "trainer.devices=1", "paths.runs=runs",
)  # fmt: skip


def overrides(run: Path, dice: random.Random) -> int:
    """The command line of a training, composed and checked."""
    chosen: list[str] = dice.sample(OVERRIDES, dice.randrange(1, 4))
    at = dice.randrange(len(chosen))
    chosen[at] = damage_text(chosen[at], dice)
    return main(["train", "--cfg", "--", *chosen])


def record(run: Path, dice: random.Random) -> int:
    """A run directory, as the report reads it: it never raises, and says what it cannot read."""
    files = [x for x in run.iterdir() if x.suffix in (".json", ".yaml", ".csv")]
    damage_file(dice.choice(files), dice)
    problem = RunRecord.read(run).problem
    assert problem is None or "\n" not in problem, problem
    return 0


def report(run: Path, dice: random.Random) -> int:
    """A run directory with the page about it."""
    files = [x for x in run.iterdir() if x.suffix in (".json", ".yaml", ".csv", ".npz")]
    damage_file(dice.choice(files), dice)
    return main(["report", str(run)])


def evaluate(run: Path, dice: random.Random) -> int:
    """A run directory as a command reads it; nothing is compiled."""
    names = ("results.json", "manifest.json", "quantization.json", "config.yaml", "model_int8.pt2")
    damage_file(run / dice.choice(names), dice)
    with patch.object(evaluating, "_measure", lambda *_: {}):
        return main(["evaluate", f"run={run}", "trust_artifact=true"])


def quantize(run: Path, dice: random.Random) -> int:
    """The same for the other command, up to where it would calibrate."""
    names = ("results.json", "manifest.json", "config.yaml", "checkpoints/best.ckpt")
    damage_file(run / dice.choice(names), dice)
    with patch.object(Quantization, "after_training", _enough):
        return main(["quantize", f"run={run}", f"paths.runs={run / 'runs'}"])


def checkpoint(run: Path, dice: random.Random) -> int:
    """A checkpoint: what loads has the weights that were saved."""
    from bitladder.cli.assemble import data_and_task
    from bitladder.cli.finished import FinishedRun
    from bitladder.cli.status import exit_status

    path = run / "checkpoints" / "best.ckpt"
    saved = torch.load(path, weights_only=True)["state_dict"]
    damage_file(path, dice)
    _, task = data_and_task(reopen(FinishedRun.open(str(run)), allow=(), data=()))

    def load() -> int:
        load_weights(str(path), task)
        for name, x in task.state_dict().items():
            assert torch.equal(x, saved[name]), f"{name} was loaded with other values"
        return 0

    return exit_status(load)


def idx(run: Path, dice: random.Random) -> int:
    """Packed images: what is read is what was packed."""
    from bitladder.cli.status import exit_status

    shape = (3, 5, 4)
    content = struct.pack(">HBB3I", 0, 8, 3, *shape) + bytes(range(60))
    packed = dice.random() < 0.7
    damaged = damage_bytes(gzip.compress(content) if packed else content, dice)
    (run / "images").write_bytes(damaged)

    def read() -> int:
        x = read_idx(run / "images", 3)
        assert x.dtype == torch.uint8
        assert x.numel() > 0
        if packed and damaged[10:] and damaged.startswith(b"\x1f\x8b"):
            assert x.flatten().tolist() == list(range(60)), "other pixels were read"
        return 0

    return exit_status(read)


def artifact(run: Path, dice: random.Random) -> int:
    """What is shipped: what it answers is what it answered before."""
    names = ("model_int8.pt2", "model_int8_program.pt2", "model_int8.onnx")
    path = run / dice.choice(names)
    runtime = "openvino" if path.suffix == ".onnx" and dice.random() < 0.3 else None
    shape = [size or 2 for size in open_artifact(run / "model_int8.pt2").inputs[0].shape]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    (before,) = tensors(open_artifact(path, runtime).run(x))
    np.save(run / "x.npy", x.numpy())
    damage_file(path, dice)
    output = run / "y.npy"
    chosen = ["--runtime", runtime] if runtime else []
    status = main(
        ["predict", str(path), "--input", f"{run}/x.npy", "--output", str(output), *chosen]
    )
    if status == 0:
        close = torch.allclose(torch.from_numpy(np.load(output)), before, atol=1e-2, rtol=0)
        assert close, "another answer"
    return status


def arrays(run: Path, dice: random.Random) -> int:
    """What is given to an artifact."""
    np.save(run / "x.npy", np.zeros((2, 1, 8, 8), np.float32))
    damage_file(run / "x.npy", dice)
    return main(["predict", str(run / "model_int8_program.pt2"), "--input", str(run / "x.npy")])


def resume(run: Path, dice: random.Random) -> int:
    """A run that was interrupted, read, built and restored up to its next batch."""
    (run / "results.json").unlink()
    names = ("manifest.json", "config.yaml", "metrics.csv")
    checkpoints = ("checkpoints/last.ckpt", "checkpoints/previous.ckpt", "checkpoints/best.ckpt")
    damage_file(run / dice.choice((*names, *checkpoints)), dice)
    with (
        patch.object(FiniteGuard, "on_train_batch_start", _enough),
        patch.object(Quantization, "on_fit_end", _enough),
        patch.object(training, "measure", _enough),
    ):
        return main(["resume", str(run)])


def reproduce(run: Path, dice: random.Random) -> int:
    """A finished run, read and built up to where it would be repeated."""
    names = ("manifest.json", "config.yaml", "metrics.csv", "results.json", "quantization.json")
    damage_file(run / dice.choice((*names, "predictions.npz", "checkpoints/last.ckpt")), dice)
    with patch.object(reproducing, "go_through", _enough):
        return main(["reproduce", str(run), f"paths.runs={run / 'runs'}"])


def _enough(*_: object, **__: object) -> None:
    raise RunError("it was read")


TARGETS: dict[str, tuple[Target, int]] = {
    "overrides": (overrides, 3),
    "record": (record, 2),
    "report": (report, 3),
    "evaluate": (evaluate, 4),
    "quantize": (quantize, 4),
    "resume": (resume, 4),
    "reproduce": (reproduce, 3),
    "checkpoint": (checkpoint, 2),
    "idx": (idx, 1),
    "artifact": (artifact, 4),
    "arrays": (arrays, 1),
}
"""Each with how often it has its turn."""
