"""The plugin in a Trainer, emulated on the CPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitladder import Bf16Precision, Fp8Precision, convert_to_fp8
from bitladder.errors import UserError
from bitladder.precision.fp8.linear import Fp8Linear

Make = Callable[..., Any]
RECIPES = ["tensorwise", "rowwise", "rowwise_with_gw_hp"]


def executed(plugin: Fp8Precision) -> list[str]:
    return [record.name for record in plugin.records if record.executed]


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_learns_as_in_bf16(
    recipe: Any, make_task: Make, ids: Any, make_trainer: Make, converted: list[str]
) -> None:
    plugin, task, reference = Fp8Precision(recipe=recipe, emulate=True), make_task(), make_task()
    make_trainer(plugin, max_epochs=30).fit(task, ids, ids)
    make_trainer(Bf16Precision(), max_epochs=30).fit(reference, ids, ids)
    assert task.losses[-1] < 0.5 * task.losses[0]
    assert sum(task.losses[-5:]) == pytest.approx(sum(reference.losses[-5:]), rel=0.02)
    assert task.losses != reference.losses
    assert executed(plugin) == converted
    assert task.dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in task.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "verbs",
    [
        ["fit", "validate", "test", "predict"],
        ["validate", "fit", "test"],
        ["test", "predict", "fit", "fit"],
        ["predict", "validate"],
    ],
)
def test_runs_follow_each_other_in_any_order(
    verbs: list[str], make_task: Make, ids: Any, make_trainer: Make, converted: list[str]
) -> None:
    task, plugin = make_task(), Fp8Precision(emulate=True)
    trainer = make_trainer(plugin, max_epochs=1)
    for verb in verbs:
        if verb == "fit":
            trainer.fit_loop.epoch_progress.reset()
            trainer.fit(task, ids, ids)
        elif verb == "predict":
            trainer.predict(task, ids)
        else:
            getattr(trainer, verb)(task, ids, verbose=False)
        assert not any(isinstance(module, Fp8Linear) for module in task.modules())
    assert executed(plugin) == (converted if "fit" in verbs else [])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("inference_mode", [True, False])
def test_evaluation_is_that_of_bf16(
    recipe: Any, inference_mode: bool, make_task: Make, ids: Any, make_trainer: Make
) -> None:
    task, scores = make_task(), []
    for plugin in (Bf16Precision(), Fp8Precision(recipe=recipe, emulate=True)):
        trainer = make_trainer(plugin, inference_mode=inference_mode)
        scores.append(trainer.validate(task, ids, verbose=False))
    assert scores[0] == scores[1]


def test_validation_inside_a_fit_is_bf16(make_task: Make, ids: Any, make_trainer: Make) -> None:
    task, scores = make_task(), []
    trainer = make_trainer(Fp8Precision(emulate=True), max_epochs=1)
    trainer.fit(task, ids, ids)
    scores.append(trainer.callback_metrics["val/loss"].item())
    scores.append(make_trainer(Bf16Precision()).validate(task, ids, verbose=False)[0]["val/loss"])
    assert scores[0] == scores[1]


@pytest.mark.filterwarnings("ignore:Found . module.s. in eval mode")
def test_the_model_is_left_as_it_was(make_task: Make, ids: Any, make_trainer: Make) -> None:
    task, plain = make_task(), make_task()
    task.net.blocks[0].eval()
    make_trainer(Fp8Precision(emulate=True), max_epochs=1).fit(task, ids, ids)
    assert [type(m) for m in task.modules()] == [type(m) for m in plain.modules()]
    for module, other in zip(task.net.modules(), plain.net.modules(), strict=True):
        assert vars(module).keys() == vars(other).keys()
    assert not task.net.blocks[0].training
    assert task.net.blocks[1].up.training


def test_a_run_that_fails_leaves_the_model_as_it_was(
    make_task: Make, ids: Any, make_trainer: Make
) -> None:
    task = make_task()
    task.configure_optimizers = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        make_trainer(Fp8Precision(emulate=True), max_epochs=1).fit(task, ids, ids)
    assert not any(isinstance(module, Fp8Linear) for module in task.modules())


def test_checkpoints_fit_the_plain_model_and_back(
    make_task: Make, ids: Any, make_trainer: Make, tmp_path: Path
) -> None:
    task, path = make_task(), tmp_path / "fp8.ckpt"
    trainer = make_trainer(plugin := Fp8Precision(emulate=True), max_epochs=1)
    trainer.fit(task, ids, ids)
    executed = (plugin.report() or {})["linears"]
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    origin = saved["bitladder_precision"]
    assert (origin.keys(), origin["requested"]) == ({"requested", "executed"}, "fp8")
    assert origin["executed"] == [x["name"] for x in executed if x["executed"]] != []
    plain = make_task()
    plain.load_state_dict(saved["state_dict"])
    for name, value in task.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name
    scores = [
        make_trainer(plugin).test(make_task(), ids, ckpt_path=path, verbose=False)
        for plugin in (Bf16Precision(), Fp8Precision(emulate=True))
    ]
    assert scores[0] == scores[1]


def test_a_fit_that_is_resumed_at_its_end_knows_what_ran(
    make_task: Make, ids: Any, make_trainer: Make, tmp_path: Path
) -> None:
    path = tmp_path / "end.ckpt"
    trainer = make_trainer(whole := Fp8Precision(emulate=True), max_epochs=1)
    trainer.fit(make_task(), ids, ids)
    trainer.save_checkpoint(path)
    resumed = Fp8Precision(emulate=True)
    make_trainer(resumed, max_epochs=1).fit(make_task(), ids, ids, ckpt_path=path)
    assert resumed.report() == whole.report()


def test_resuming_continues_exactly(
    make_task: Make, ids: Any, make_trainer: Make, tmp_path: Path
) -> None:
    straight, resumed, path = make_task(), make_task(), tmp_path / "half.ckpt"
    make_trainer(Fp8Precision(emulate=True), max_epochs=2).fit(straight, ids, ids)
    trainer = make_trainer(Fp8Precision(emulate=True), max_epochs=1)
    trainer.fit(make_task(), ids, ids)
    trainer.save_checkpoint(path)
    make_trainer(Fp8Precision(emulate=True), max_epochs=2).fit(resumed, ids, ids, ckpt_path=path)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_report_names_every_linear(make_task: Make, ids: Any, make_trainer: Make) -> None:
    plugin = Fp8Precision(emulate=True, skip=["net.blocks.0.*"])
    make_trainer(plugin, max_epochs=1).fit(make_task(), ids, ids)
    report = plugin.report()
    assert report is not None
    assert json.loads(json.dumps(report)) == report
    assert report["summary"] == "fp8: 2 of 6 linears ran in fp8"
    assert plugin.effective()["linears_executed"] == 2
    assert {x["name"]: x.get("reason") for x in report["linears"]} == {
        "net.blocks.0.up": "named in skip",
        "net.blocks.0.down": "named in skip",
        "net.blocks.1.up": None,
        "net.blocks.1.down": None,
        "net.odd": "out_features=20 not divisible by 16",
        "net.head": "the last layer of the model",
    }


def test_a_model_with_nothing_for_fp8_trains_and_says_so(
    make_task: Make, ids: Any, make_trainer: Make
) -> None:
    net = nn.Sequential(nn.Embedding(16, 32), nn.Conv1d(8, 8, 1), nn.Linear(32, 16))
    plugin = Fp8Precision(emulate=True)
    with pytest.warns(UserWarning, match=r"no linear of this model can run in fp8.*net\.2"):
        make_trainer(plugin, max_epochs=1).fit(make_task(net), ids, ids)
    assert executed(plugin) == []


def test_a_model_converted_in_configure_model_is_used_as_it_is(
    make_task: Make, ids: Any, make_trainer: Make, converted: list[str]
) -> None:
    task, plugin = make_task(), Fp8Precision(emulate=True)
    task.configure_model = lambda: convert_to_fp8(task.net, emulate=True)
    trainer = make_trainer(plugin, max_epochs=1)
    trainer.validate(task, ids, verbose=False)
    trainer.fit(task, ids, ids)
    assert executed(plugin) == converted
    assert isinstance(task.net.blocks[0].up, Fp8Linear)
    with pytest.raises(UserError, match="the same arguments"):
        make_trainer(Fp8Precision(emulate=True, recipe="rowwise")).fit(task, ids, ids)


def test_what_really_runs_is_told_before_training() -> None:
    plugin = Fp8Precision(emulate=True, recipe="rowwise")
    plugin.attach(torch.device("cpu"))
    facts = plugin.effective()
    assert json.loads(json.dumps(facts)) == facts
    facts.pop("native_instructions", None)
    assert facts == {
        "name": "fp8",
        "device": "cpu",
        "parameters": "float32",
        "compute": "bfloat16",
        "autocast": True,
        "linears": "float8_e4m3fn",
        "linear_gradients": "float8_e4m3fn",
        "recipe": "rowwise",
        "layers": "all",
        "emulated": True,
        "linears_executed": 0,
    }
    assert Fp8Precision().effective()["linear_gradients"] == "float8_e5m2"


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_the_cpu_is_refused_without_emulation(
    verb: str, make_task: Make, ids: Any, make_trainer: Make
) -> None:
    loaders = (ids, ids) if verb == "fit" else (ids,)
    run = getattr(make_trainer(Fp8Precision()), verb)
    match = r"^precision=fp8 needs an NVIDIA GPU.*8\.9.*precision\.emulate=true.*precision=bf16$"
    with pytest.raises(UserError, match=match):
        run(make_task(), *loaders)


def test_an_old_gpu_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    device = torch.device("cuda", 0)
    with pytest.raises(UserError, match=r"8\.9, but NVIDIA A100 has 8\.0; .*bf16.*emulate=true"):
        Fp8Precision().attach(device)
    Fp8Precision(emulate=True).attach(device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    Fp8Precision().attach(device)


@pytest.mark.parametrize(("key", "value"), [("recipe", "blockwise"), ("layers", "some")])
def test_an_unknown_choice_is_refused(key: str, value: str) -> None:
    arguments: dict[str, Any] = {key: value}
    with pytest.raises(UserError, match=rf"^precision\.{key}={value}: write one of "):
        Fp8Precision(**arguments)


def test_a_pattern_that_matches_nothing_is_refused(
    make_task: Make, ids: Any, make_trainer: Make
) -> None:
    plugin = Fp8Precision(emulate=True, skip=["net.haed"])
    with pytest.raises(UserError, match=r"did you mean 'net\.head'"):
        make_trainer(plugin).fit(make_task(), ids, ids)
