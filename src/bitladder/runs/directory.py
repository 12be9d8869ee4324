"""Where everything that a run leaves behind lies."""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bitladder.errors import UserError

# A digits run leaves about 10 MB. With less than this free, no run would end well.
MINIMUM_FREE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class RunDirectory:
    """One training in one directory, with the name of every file in it.

    Attributes:
        path: The directory itself.
        trusts_links: Whether links in it may lead elsewhere, such as to another disk.
    """

    path: Path
    trusts_links: bool = False

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """What the run was made from, written before training."""
        return self.path / "manifest.json"

    @property
    def metrics(self) -> Path:
        """Every logged scalar, step by step."""
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        """The rungs, written last."""
        return self.path / "results.json"

    @property
    def precision(self) -> Path:
        """Per layer: in which format it ran, or why not, where the precision reports that."""
        return self.path / "precision.json"

    @property
    def quantization(self) -> Path:
        """Per layer: quantized or why not, ranges, SQNR."""
        return self.path / "quantization.json"

    @property
    def histograms(self) -> Path:
        """Per layer: how its weight and its input lie in the ranges of their grids."""
        return self.path / "histograms.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """Where training stood last."""
        return self.checkpoints / "last.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        """The one before `last_checkpoint`, which is used when that is damaged."""
        return self.checkpoints / "previous.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """Where the validation metric was best."""
        return self.checkpoints / "best.ckpt"

    @property
    def int8_artifact(self) -> Path:
        """The AOTInductor package that is shipped."""
        return self.path / "model_int8.pt2"

    @property
    def float_artifact(self) -> Path:
        """The float model compiled the same way, for an honest ratio."""
        return self.path / "model_float.pt2"

    @property
    def artifacts(self) -> list[Path]:
        """Every model's file that is there, shipped or compared with."""
        return sorted(path for path in self.path.glob("[!.]*") if path.suffix in (".pt2", ".onnx"))

    @property
    def predictions(self) -> Path:
        """Logits of every rung on the test split, and the labels."""
        return self.path / "predictions.npz"

    @property
    def samples(self) -> Path:
        """Inputs on which the rungs answer differently, where the data are images."""
        return self.path / "samples.npz"

    @property
    def report(self) -> Path:
        """The self-contained page about the run."""
        return self.path / "report.html"

    @property
    def evaluation(self) -> Path:
        """The rungs as they were measured again, with what was recorded."""
        return self.path / "evaluation.json"

    @property
    def reproduction(self) -> Path:
        """How the run compares with the one that it repeats."""
        return self.path / "reproduction.json"

    @property
    def log(self) -> Path:
        """What the program said, with times."""
        return self.log_of(0)

    def log_of(self, rank: int) -> Path:
        """What one of several processes said: ``train.log``, ``train.rank1.log``, ..."""
        return self.path / (f"train.rank{rank}.log" if rank else "train.log")

    @property
    def lock(self) -> Path:
        """Held (flock) as long as the run lives, where it keeps one."""
        return self.path / "run.lock"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def wandb(self) -> Path:
        """The folder of Weights & Biases' own files."""
        return self.path / "wandb"

    @classmethod
    def create(cls, runs: Path, name: str) -> "RunDirectory":
        """Make a fresh directory `<name>-YYYYmmdd-HHMMSS` (with `-2`, `-3`, ... on a collision).

        Making it is atomic: of two processes that start in one second, each gets its own.

        Args:
            runs: The folder of all runs, made when it is missing.
            name: What the run is called; names of one experiment sort by time.

        Raises:
            UserError: The name cannot be a folder's, `runs` cannot be written, or its disk is
                (nearly) full.
        """
        if name in {"", ".", ".."} or any(c == "/" or not c.isprintable() for c in name):
            raise UserError(
                f"name={name!r} cannot name a folder: write letters, digits, '-' or '_'"
            )
        try:
            runs.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(runs)
            # A file system without a size of its own reports a total of 0.
            if disk.total and disk.free < MINIMUM_FREE_BYTES:
                raise UserError(
                    f"the disk of {runs} is nearly full ({disk.free / 1e6:.0f} MB free, a run "
                    f"needs {MINIMUM_FREE_BYTES / 1e6:.0f}): free some, or write paths.runs=FOLDER"
                )
            return cls(_make_unique(runs, f"{name}-{datetime.now():%Y%m%d-%H%M%S}"))
        except OSError as error:
            raise UserError(
                f"cannot make a run directory in {runs} ({error.strerror}): write "
                "paths.runs=FOLDER, a folder that can be written"
            ) from error


def _make_unique(parent: Path, stem: str) -> Path:
    path = parent / stem
    attempt = 1
    while True:
        try:
            path.mkdir()
            return path
        except FileExistsError:
            attempt += 1
            path = parent / f"{stem}-{attempt}"
