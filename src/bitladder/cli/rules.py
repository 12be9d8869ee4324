"""Combinations that cannot be, each with the line that says so. One place, one function a rule."""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from bitladder.cli.mlflow_store import missing_packages
from bitladder.cli.pairings import PAIRINGS
from bitladder.cli.schema import Config
from bitladder.errors import UserError

CUDA = ("gpu", "cuda")
"""Values of ``trainer.accelerator`` that ask for a CUDA device."""

MONITORS = (".LearningRateMonitor", ".NumericsMonitor")
"""Callbacks that write to loggers and nowhere else."""

RESERVED = ("last", "previous")
"""Names of checkpoints that a run goes on from."""

ARTIFACT_NAME = re.compile(r"\w[\w.+=,-]*\.pt2")
FLOAT_ARTIFACT = "model_float.pt2"


def check(config: Config) -> None:
    """Refuse what cannot be on this machine or at all.

    Raises:
        UserError: The first complaint.
    """
    for rule in RULES:
        if complaint := rule(config):
            raise UserError(complaint)


def cuda_device(config: Config) -> str | None:
    """A GPU can be asked for only where there is one."""
    accelerator = config.trainer.get("accelerator")
    if accelerator in CUDA and not torch.cuda.is_available():
        return f"trainer.accelerator={accelerator}: there is no CUDA device here: write trainer=cpu"
    return None


def fp8_quantization(config: Config) -> str | None:
    """Layers that round to int8 compute in bf16: fp8 would round them again, more coarsely."""
    quantization = config.quantization
    rounds_at_once = quantization.get("method") == "qat" and not quantization.get("start")
    if rounds_at_once and config.precision["_target_"].endswith(".Fp8Precision"):
        return (
            "precision=fp8 with quantization=qat would train nothing in fp8, whose steps are"
            " coarser than int8's: write precision=bf16, quantization=ptq, or"
            " quantization.start=0.5 to train in fp8 before QAT starts"
        )
    return None


def one_launcher(config: Config) -> str | None:
    """What a spawned process made of the model and the callbacks is gone when it ends."""
    strategy = str(config.trainer.get("strategy", "auto"))
    if strategy.endswith(("_spawn", "_fork", "_notebook")):
        plain = strategy.rpartition("_")[0]
        return f"trainer.strategy={strategy}: write trainer.strategy={plain}"
    return None


def whole_numbers(config: Config) -> str | None:
    """Counts of which there must be one at least; ``-1`` for "no end" is none."""
    counts = {
        "trainer": (
            *("max_epochs", "accumulate_grad_batches", "check_val_every_n_epoch"),
            "val_check_interval",
        ),
        "data": ("batch_size",),
        "quantization": ("calibration_batches",),
    }
    for section, names in counts.items():
        for name in names:
            value = getattr(config, section).get(name)
            if (isinstance(value, int) and value < 1) or value == 0.0:
                return f"{section}.{name}={value}: write 1 or more"
    return None


def trains_and_tests(config: Config) -> str | None:
    """A run trains on batches and scores its rungs on the whole test split."""
    trainer = config.trainer
    if trainer.get("fast_dev_run"):
        return (
            f"trainer.fast_dev_run={trainer['fast_dev_run']} would leave a model of no use, and"
            " no checkpoint: write trainer.max_steps=3"
        )
    if trainer.get("limit_train_batches", 1.0) in (0, 0.0):
        return "trainer.limit_train_batches=0 would train nothing: write 1 or more, or a fraction"
    if trainer.get("limit_test_batches", 1.0) not in (None, 1.0):
        return (
            f"trainer.limit_test_batches={trainer['limit_test_batches']}: the rungs are scored on"
            " all test data; leave it out"
        )
    return None


def gradient_clipping(config: Config) -> str | None:
    """Lightning would clip nothing at 0 and below, and everything where the value is NaN."""
    value = config.trainer.get("gradient_clip_val")
    if value is not None and not value > 0:
        return f"trainer.gradient_clip_val={value}: write a value above 0, or null to clip nothing"
    return None


def artifact_name(config: Config) -> str | None:
    """The artifact is a file of the run directory that nothing else writes."""
    name = config.quantization.get("artifact", "model_int8.pt2")
    if not ARTIFACT_NAME.fullmatch(str(name)) or name == FLOAT_ARTIFACT:
        return (
            f"quantization.artifact={name}: write the name of a file in the run directory, such as"
            f" model_int8.pt2, and not {FLOAT_ARTIFACT}"
        )
    return None


def training_ends(config: Config) -> str | None:
    """Lightning would train 1000 epochs where nothing says how many."""
    if config.trainer.get("max_epochs") is None and config.trainer.get("max_steps", -1) < 1:
        return "trainer.max_epochs is not given: write how many epochs to train"
    return None


def quantization_schedule(config: Config) -> str | None:
    """QAT starts before training ends, and freezes nothing before it starts.

    Each moment is a fraction of the training in [0, 1] if it is a float, an epoch if an int.
    """
    given = {
        name: value
        for name in ("start", "freeze_observers", "freeze_batchnorm")
        if isinstance(value := config.quantization.get(name), int | float)
    }
    for name, value in given.items():
        if not value >= 0 or (isinstance(value, float) and value > 1.0):  # NaN is neither
            return f"quantization.{name}={value}: write a fraction in 0.0 to 1.0 or an epoch"
    moments = {name: _fraction(value, config) for name, value in given.items()}
    start = moments.get("start", 0.0)
    if start >= 1.0:
        return f"quantization.start={given['start']}: training is over then; write an earlier one"
    for name, moment in moments.items():
        if moment < start:
            return (
                f"quantization.{name}={given[name]} comes before"
                f" quantization.start={given['start']}; write a later one"
            )
    return None


def monitors_need_logger(config: Config) -> str | None:
    """Monitors, Lightning's of the learning rate and ours, cannot write without a logger."""
    for name, node in config.callbacks.items():
        if node["_target_"].endswith(MONITORS) and not config.logger:
            return f"callbacks.{name} needs a logger: write logger=csv or callbacks.{name}=null"
    return None


def checkpoints_apart(config: Config) -> str | None:
    """What ``resume`` goes on from is written by ``LastCheckpoint`` alone."""
    targets = {name: node["_target_"] for name, node in config.callbacks.items()}
    if not any(target.endswith(".LastCheckpoint") for target in targets.values()):
        return None
    for name, target in targets.items():
        node = config.callbacks[name]
        if not target.endswith(".ModelCheckpoint") or "dirpath" in node:
            continue  # where it lies elsewhere, LastCheckpoint sees where
        if node.get("save_last"):
            return (
                f"callbacks.{name}.save_last={node['save_last']}: callbacks.last_checkpoint writes"
                " last.ckpt; leave it out"
            )
        if node.get("filename") in RESERVED:
            return (
                f"callbacks.{name}.filename={node['filename']}: callbacks.last_checkpoint writes"
                f" {node['filename']}.ckpt; write another name"
            )
    return None


def mlflow_installed(config: Config) -> str | None:
    """MLflow comes with an extra."""
    for name, node in config.logger.items():
        if node["_target_"].endswith(".MLFlowLogger") and (missing := missing_packages()):
            return f"logger.{name} {missing}"
    return None


def checkpoint_exists(config: Config) -> str | None:
    """A checkpoint to start from must be there."""
    if config.checkpoint is not None and not Path(config.checkpoint).is_file():
        return f"checkpoint={config.checkpoint}: there is no such file"
    return None


RULES: tuple[Callable[[Config], str | None], ...] = (
    cuda_device,
    *PAIRINGS,
    fp8_quantization,
    one_launcher,
    whole_numbers,
    training_ends,
    trains_and_tests,
    gradient_clipping,
    artifact_name,
    quantization_schedule,
    monitors_need_logger,
    checkpoints_apart,
    mlflow_installed,
    checkpoint_exists,
)


def _fraction(moment: float, config: Config) -> float:
    """A moment as a fraction of the training; epochs count for nothing where steps end it."""
    if isinstance(moment, float):
        return moment
    epochs = config.trainer.get("max_epochs")
    return moment / epochs if epochs else 0.0
