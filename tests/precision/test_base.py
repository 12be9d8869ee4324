"""What every precision plugin does."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
)
from lightning.pytorch.strategies.xla import XLAStrategy

from bitladder.errors import UserError
from bitladder.precision import (
    Bf16Precision,
    Bf16TruePrecision,
    Fp16Precision,
    Fp32Precision,
    LadderPrecision,
    Tf32Precision,
)

ON_BOTH = [Fp32Precision, Fp16Precision, Bf16Precision, Bf16TruePrecision]
LOGITS = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "bf16_true": torch.bfloat16,
}
LIGHTNING_NAMES = {
    "fp32": "32-true",
    "tf32": "32-true",
    "fp16": "16-mixed",
    "bf16": "bf16-mixed",
    "bf16_true": "bf16-true",
}


@pytest.mark.parametrize("plugin_class", ON_BOTH)
def test_training_learns_and_computes_in_the_format(
    plugin_class: type[LadderPrecision],
    task_class: Any,
    loader: Any,
    make_trainer: Callable[..., Any],
    accelerator: str,
) -> None:
    task, plugin = task_class(), plugin_class()
    trainer = make_trainer(plugin, max_epochs=6, accelerator=accelerator)
    before = trainer.validate(task, loader, verbose=False)[0]["val/loss"]
    trainer.fit(task, loader, loader)
    after = trainer.validate(task, loader, verbose=False)[0]["val/loss"]
    assert after < 0.6 * before
    assert task.logit_dtypes == {LOGITS[plugin.requested]}
    assert {p.dtype for p in task.net[0].parameters()} == {plugin.parameter_dtype}


@pytest.mark.parametrize("plugin_class", ON_BOTH)
def test_validate_test_and_predict_run_alone_and_again(
    plugin_class: type[LadderPrecision],
    task_class: Any,
    loader: Any,
    make_trainer: Callable[..., Any],
    accelerator: str,
) -> None:
    task, plugin = task_class(), plugin_class()
    trainer = partial(make_trainer, plugin, accelerator=accelerator)
    runs = {
        "validate": lambda: trainer().validate(task, loader, verbose=False),
        "test": lambda: trainer().test(task, loader, verbose=False),
        "predict": lambda: trainer().predict(task, loader),
    }
    for run in runs.values():
        first, again = run(), run()
        assert str(first) == str(again)
    assert runs["predict"]()[0].dtype == LOGITS[plugin.requested]
    assert task.logit_dtypes == {LOGITS[plugin.requested]}


@pytest.mark.parametrize("plugin_class", [*ON_BOTH, Tf32Precision])
def test_lightning_reads_its_own_name_of_the_precision(
    plugin_class: type[LadderPrecision], make_trainer: Callable[..., Any]
) -> None:
    trainer = make_trainer(plugin_class())
    assert trainer.precision == LIGHTNING_NAMES[plugin_class.requested]


@pytest.mark.parametrize("plugin_class", ON_BOTH)
def test_effective_is_json_and_says_the_device_once_attached(
    plugin_class: type[LadderPrecision],
) -> None:
    plugin = plugin_class()
    assert plugin.effective()["device"] == "unknown"
    plugin.attach(torch.device("cpu"))
    facts = plugin.effective()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["name"], facts["device"]) == (plugin.requested, "cpu")


def test_effective_of_fp16() -> None:
    plugin = Fp16Precision(init_scale=1024.0)
    plugin.attach(torch.device("cpu"))
    facts = plugin.effective()
    facts.pop("native_instructions", None)
    assert facts == {
        "name": "fp16",
        "device": "cpu",
        "parameters": "float32",
        "compute": "float16",
        "autocast": True,
        "convolution_gradients": "float32, rounded once to float16",
        "loss_scale": 1024.0,
        "skipped_steps": 0,
    }


@pytest.mark.parametrize("plugin_class", [*ON_BOTH, Tf32Precision])
def test_a_device_of_another_kind_is_refused(plugin_class: type[LadderPrecision]) -> None:
    with pytest.raises(UserError, match=r"runs on cpu and cuda.*mps.*write trainer=cpu"):
        plugin_class().attach(torch.device("mps"))


@pytest.mark.parametrize(
    ("plugin_class", "instead"),
    [(Tf32Precision, "fp32"), (Bf16Precision, "fp16"), (Bf16TruePrecision, "fp32")],
)
def test_a_gpu_without_the_format_is_refused(
    plugin_class: type[LadderPrecision], instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(UserError, match=rf"8\.0.*Tesla V100 has 7\.0.*precision={instead}$"):
        plugin_class().attach(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    plugin = plugin_class()
    plugin.attach(torch.device("cuda", 0))
    assert plugin.effective()["device"] == "cuda"


@pytest.mark.parametrize("plugin_class", [Fp32Precision, Fp16Precision, Bf16Precision])
def test_trainable_parameters_of_another_type_are_refused(
    plugin_class: type[LadderPrecision],
    train_only: Any,
    loader: Any,
    make_trainer: Callable[..., Any],
) -> None:
    task = train_only()
    task.net[3].bfloat16()
    with pytest.raises(UserError, match=r"net\.3\.weight is bfloat16; .*model\.to\(torch\.float32"):
        make_trainer(plugin_class()).fit(task, loader)


@pytest.mark.parametrize("plugin_class", ON_BOTH)
@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy, XLAStrategy])
def test_strategies_with_a_plugin_of_their_own_are_refused(
    plugin_class: type[LadderPrecision], strategy: type[Strategy]
) -> None:
    with pytest.raises(UserError, match=rf"{strategy.__name__}.*write trainer\.strategy=ddp$"):
        plugin_class().check_strategy(strategy)


@pytest.mark.parametrize(
    ("plugin", "instead"),
    [
        (Fp16Precision(), "write precision=bf16$"),
        (Bf16TruePrecision(stochastic_rounding=True), "write .*stochastic_rounding=false$"),
    ],
)
def test_what_needs_whole_tensors_refuses_shards(plugin: LadderPrecision, instead: str) -> None:
    with pytest.raises(UserError, match=f"model-parallel.*{instead}"):
        plugin.check_strategy(ModelParallelStrategy)


@pytest.mark.parametrize("plugin_class", [Fp32Precision, Bf16Precision, Bf16TruePrecision])
def test_shards_may_train_otherwise(plugin_class: type[LadderPrecision]) -> None:
    plugin_class().check_strategy(ModelParallelStrategy)


@pytest.mark.parametrize("plugin_class", ON_BOTH)
def test_resuming_continues_exactly(
    plugin_class: type[LadderPrecision],
    train_only: Any,
    loader: Any,
    make_trainer: Callable[..., Any],
    accelerator: str,
    tmp_path: Path,
) -> None:
    straight = train_only()
    make_trainer(plugin_class(), max_epochs=2, accelerator=accelerator).fit(straight, loader)

    trainer = make_trainer(plugin_class(), max_epochs=1, accelerator=accelerator)
    trainer.fit(halfway := train_only(), loader)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert saved["bitladder_precision"]["requested"] == plugin_class.requested

    resumed = train_only()
    make_trainer(plugin_class(), max_epochs=2, accelerator=accelerator).fit(
        resumed, loader, ckpt_path=tmp_path / "half.ckpt"
    )
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(halfway.net[0].weight, resumed.net[0].weight)
