import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitladder.cli import rules
from bitladder.cli.schema import Config
from bitladder.errors import UserError

Make = Callable[..., Config]
FP8 = {"_target_": "bitladder.precision.Fp8Precision", "emulate": True}


def _trainer(**arguments: Any) -> dict[str, Any]:
    return {"_target_": "lightning.Trainer", "accelerator": "cpu", "max_epochs": 10} | arguments


def _qat(**arguments: Any) -> dict[str, Any]:
    return {"_target_": "bitladder.callbacks.Quantization", "method": "qat"} | arguments


def _complaint(config: Config) -> str:
    with pytest.raises(UserError) as caught:
        rules.check(config)
    return str(caught.value)


def test_a_possible_configuration_passes(config: Make) -> None:
    rules.check(config())


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_where_there_is_none(
    accelerator: str, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _complaint(config(trainer=_trainer(accelerator=accelerator))) == (
        f"trainer.accelerator={accelerator}: there is no CUDA device here: write trainer=cpu"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    rules.check(config(trainer=_trainer(accelerator=accelerator)))


@pytest.mark.parametrize("start", [{}, {"start": 0}, {"start": 0.0}])
def test_fp8_under_qat_from_the_first_step(config: Make, start: dict[str, Any]) -> None:
    complaint = _complaint(config(precision=FP8, quantization=_qat(**start)))
    assert complaint.startswith("precision=fp8 with quantization=qat would train nothing in fp8")
    assert "write precision=bf16, quantization=ptq, or quantization.start=0.5" in complaint


@pytest.mark.parametrize("possible", [{"method": "ptq"}, {"method": "dynamic"}, {"start": 0.5}])
def test_fp8_before_quantization(config: Make, possible: dict[str, Any]) -> None:
    rules.check(config(precision=FP8, quantization=_qat(**possible)))


@pytest.mark.parametrize("count", [0, -1])
def test_counts_are_one_at_least(config: Make, count: int) -> None:
    data = {"_target_": "bitladder.data.Digits", "batch_size": count}
    assert _complaint(config(data=data)) == f"data.batch_size={count}: write 1 or more"
    trainer = _trainer(max_epochs=count)
    assert _complaint(config(trainer=trainer)) == f"trainer.max_epochs={count}: write 1 or more"
    quantization = _qat(calibration_batches=count)
    assert "quantization.calibration_batches" in _complaint(config(quantization=quantization))


@pytest.mark.parametrize(
    "name", ["accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"]
)
def test_intervals_are_one_at_least(config: Make, name: str) -> None:
    assert _complaint(config(trainer=_trainer(**{name: 0}))) == f"trainer.{name}=0: write 1 or more"
    rules.check(config(trainer=_trainer(**{name: 1})))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"fast_dev_run": True}, "write trainer.max_steps=3"),
        ({"fast_dev_run": 2}, "write trainer.max_steps=3"),
        ({"limit_train_batches": 0}, "would train nothing"),
        ({"limit_train_batches": 0.0}, "would train nothing"),
        ({"limit_test_batches": 3}, "scored on all test data"),
        ({"limit_test_batches": 0.5}, "scored on all test data"),
        ({"gradient_clip_val": 0.0}, "write a value above 0"),
        ({"gradient_clip_val": -1}, "write a value above 0"),
        ({"gradient_clip_val": math.nan}, "write a value above 0"),
    ],
)
def test_what_lightning_would_ignore_is_refused(
    config: Make, arguments: dict[str, Any], says: str
) -> None:
    (name,) = arguments
    complaint = _complaint(config(trainer=_trainer(**arguments)))
    assert complaint.startswith(f"trainer.{name}=")
    assert says in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        {"fast_dev_run": False, "limit_test_batches": 1.0, "limit_train_batches": 1},
        {"gradient_clip_val": None, "limit_test_batches": None, "limit_train_batches": 0.5},
        {"gradient_clip_val": 0.5, "val_check_interval": 0.25, "check_val_every_n_epoch": None},
    ],
)
def test_what_lightning_does_passes(config: Make, arguments: dict[str, Any]) -> None:
    rules.check(config(trainer=_trainer(**arguments)))


@pytest.mark.parametrize(
    "name",
    [
        *("model_float.pt2", "results.json", "model", ".pt2", "sub/model.pt2", "../model.pt2"),
        *("/tmp/model.pt2", "last.ckpt", None, 3),
    ],
)
def test_an_artifact_is_a_file_of_its_own_in_the_run_directory(config: Make, name: Any) -> None:
    complaint = _complaint(config(quantization=_qat(artifact=name)))
    assert complaint.startswith(f"quantization.artifact={name}: write the name of a file")
    rules.check(config(quantization=_qat(artifact="resnet-int8_v1.pt2")))


def test_training_must_end(config: Make) -> None:
    assert "how many epochs" in _complaint(config(trainer=_trainer(max_epochs=None)))
    rules.check(config(trainer=_trainer(max_epochs=None, max_steps=100)))


@pytest.mark.parametrize(
    "moments",
    [
        {},
        {"start": 0, "freeze_observers": 0},
        {"start": 0.2, "freeze_observers": 0.2, "freeze_batchnorm": 1.0},
        {"start": 2, "freeze_observers": 0.5, "freeze_batchnorm": None},
        {"start": 9, "freeze_observers": 12},
    ],
)
def test_a_schedule_in_order_passes(config: Make, moments: dict[str, Any]) -> None:
    rules.check(config(quantization=_qat(**moments)))


@pytest.mark.parametrize(
    ("moments", "line"),
    [
        ({"start": 1.0}, "quantization.start=1.0: training is over then"),
        ({"start": 10}, "quantization.start=10: training is over then"),
        ({"start": -1}, "quantization.start=-1: write a fraction"),
        ({"freeze_observers": 1.5}, "quantization.freeze_observers=1.5: write a fraction"),
        (
            {"start": 0.5, "freeze_batchnorm": 0.4},
            "quantization.freeze_batchnorm=0.4 comes before quantization.start=0.5",
        ),
        (
            {"start": 6, "freeze_observers": 0.5},
            "quantization.freeze_observers=0.5 comes before quantization.start=6",
        ),
    ],
)
def test_a_schedule_out_of_order_is_refused(
    config: Make, moments: dict[str, Any], line: str
) -> None:
    assert _complaint(config(quantization=_qat(**moments))).startswith(line)


@pytest.mark.parametrize(
    "monitor",
    ["lightning.pytorch.callbacks.LearningRateMonitor", "bitladder.callbacks.NumericsMonitor"],
)
def test_a_monitor_needs_a_logger(config: Make, monitor: str) -> None:
    callbacks = {"watch": {"_target_": monitor}}
    assert _complaint(config(callbacks=callbacks)) == (
        "callbacks.watch needs a logger: write logger=csv or callbacks.watch=null"
    )
    logger = {"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger"}}
    rules.check(config(callbacks=callbacks, logger=logger))


@pytest.mark.parametrize(
    "given", [{"save_last": True}, {"save_last": "link"}, {"filename": "last"}]
)
def test_only_one_callback_writes_what_resume_goes_on_from(
    config: Make, given: dict[str, Any]
) -> None:
    mine = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", **given}
    last = {"_target_": "bitladder.callbacks.LastCheckpoint"}
    says = _complaint(config(callbacks={"mine": mine, "last_checkpoint": last}))
    assert says.startswith(f"callbacks.mine.{next(iter(given))}=")
    assert "callbacks.last_checkpoint writes last.ckpt" in says
    rules.check(config(callbacks={"mine": mine}))


def test_a_checkpoint_must_be_there(config: Make, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    assert _complaint(config(checkpoint=str(file))) == f"checkpoint={file}: there is no such file"
    file.touch()
    rules.check(config(checkpoint=str(file)))
