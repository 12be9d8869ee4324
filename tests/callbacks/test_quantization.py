import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from bitladder import (
    Bf16Precision,
    Bf16TruePrecision,
    Fp16Precision,
    Fp32Precision,
    Quantization,
)
from bitladder.errors import RunError, UserError
from bitladder.precision.base import LadderPrecision
from bitladder.quantization import quantized_layers
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.recipe import Method

from .conftest import MakeTrainer, Net, Researcher, WithoutArtifact, data, researcher


@pytest.mark.parametrize("method", ["qat", "ptq", "dynamic"])
def test_after_fit_test_and_predict_run_the_artifact(
    make_trainer: MakeTrainer, tmp_path: Path, method: Method
) -> None:
    callback, module, datamodule = Quantization(method, target="net"), researcher(), data()
    names = list(module.state_dict())
    trainer = make_trainer(callback, epochs=2)
    trainer.fit(module, datamodule=datamodule)
    (metrics,) = trainer.test(module, datamodule=datamodule, verbose=False)
    predicted = torch.cat(
        [
            x
            for x in trainer.predict(module, datamodule.test_dataloader()) or []
            if torch.is_tensor(x)
        ]
    )
    labels = torch.cat([y for _, y in datamodule.test_dataloader()])
    right = (predicted.argmax(1) == labels).float().mean().item()
    assert metrics["test/accuracy"] == pytest.approx(right)
    assert list(module.state_dict()) == names
    batches = [x for x, _ in datamodule.test_dataloader()]
    torch.save([*batches, batches[0][:1], batches[0][:7], torch.cat(batches)], tmp_path / "x.pt")
    program = (
        "import sys, torch\n"
        "model = torch._inductor.aoti_load_package('model_int8.pt2')\n"
        "torch.save([model(x) for x in torch.load('x.pt')], 'y.pt')\n"
        "assert not {'bitladder', 'torchao', 'lightning'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", program], check=True, cwd=tmp_path)
    *as_predicted, one, seven, everything = torch.load(tmp_path / "y.pt")
    assert torch.equal(torch.cat(as_predicted), predicted)
    if method != "dynamic":  # whose ranges are those of the whole batch
        torch.testing.assert_close(one, predicted[:1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(seven, predicted[:7], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(everything, predicted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ptq", "dynamic"])
def test_after_training_makes_of_a_trained_module_what_a_fit_would(
    make_trainer: MakeTrainer, method: Method
) -> None:
    fitted, module, datamodule = Quantization(method, target="net"), researcher(), data()
    trainer = make_trainer(fitted, epochs=1)
    trainer.fit(module, datamodule=datamodule)
    trained = researcher(seed=1)
    trained.load_state_dict(module.state_dict())
    names = list(trained.state_dict())
    callback = Quantization(method, target="net", artifact="afterwards.pt2")
    trainer = make_trainer(epochs=1)
    callback.after_training(trainer, trained, datamodule)
    assert fitted.deployment is not None
    assert callback.deployment is not None
    assert callback.deployment.layers == fitted.deployment.layers
    x = next(iter(datamodule.test_dataloader()))[0]
    assert torch.equal(trained.net(x), fitted.deployment.run(x))
    assert list(trained.state_dict()) == names
    assert all(part.training for part in (trained, trained.net, trained.net.norm))


def test_qat_needs_a_training(make_trainer: MakeTrainer) -> None:
    module = researcher()
    with pytest.raises(UserError, match="method=qat needs a training: write ptq or dynamic"):
        Quantization("qat", target="net").after_training(make_trainer(epochs=1), module, data())
    assert not quantized_layers(module)


def input_quantizer(module: nn.Module) -> FakeQuantize:
    quantize = quantized_layers(module)["net.conv"].input_quantize
    assert isinstance(quantize, FakeQuantize)
    return quantize


class Watch(L.Callback):
    """Notes what the quantizers do at every training batch, and their scales around validation."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[tuple[bool, bool, bool]] = []
        self.modes: list[bool] = []
        self.before: Tensor | None = None

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        assert isinstance(pl_module, Researcher)
        net = pl_module.net
        quantize = input_quantizer(pl_module)
        self.phases.append((quantize.quantizing, quantize.observing, net.norm.training))
        self.modes.append(net.drop.training)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.before = input_quantizer(pl_module).scale.clone()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert self.before is not None
        after = input_quantizer(pl_module).scale
        assert torch.equal(self.before, after), "validation moved a range"


def test_the_schedule_switches_rounding_ranges_and_batchnorm(make_trainer: MakeTrainer) -> None:
    watch, module, datamodule = Watch(), researcher(), data()
    callback = WithoutArtifact(
        "qat", target="net", start=1, freeze_observers=2, freeze_batchnorm=0.75
    )
    make_trainer(callback, watch, epochs=4).fit(module, datamodule=datamodule)
    batches = len(watch.phases) // 4
    phases = [watch.phases[epoch * batches + 1] for epoch in range(4)]
    assert phases == [
        (False, False, True),
        (True, True, True),
        (True, False, True),
        (True, False, False),
    ]
    assert all(watch.modes), "dropout trained in eval mode after a validation"
    assert quantized_layers(module)["net.conv"].batch_norm is module.net.norm


def states(module: Researcher) -> dict[str, Tensor]:
    tensors = dict(module.state_dict())
    for name, layer in quantized_layers(module).items():
        for part in (layer.input_quantize, layer.weight_quantize):
            tensors |= {f"{name}.{id}": value for id, value in part.state().items()}
    return tensors


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("plugin", [Fp32Precision, Fp16Precision])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(
    make_trainer: MakeTrainer, tmp_path: Path, plugin: type[LadderPrecision], stop: int
) -> None:
    def quantization() -> Quantization:
        return WithoutArtifact("qat", target="net", start=1, freeze_observers=2, freeze_batchnorm=3)

    whole = researcher()
    make_trainer(quantization(), epochs=4, plugin=plugin()).fit(whole, datamodule=data())
    checkpoint = tmp_path / "checkpoints" / f"epoch={stop - 1}.ckpt"
    torch.load(checkpoint, weights_only=True)
    early = states(whole)
    resumed = researcher(seed=7)
    make_trainer(quantization(), epochs=4, plugin=plugin()).fit(
        resumed, datamodule=data(), ckpt_path=checkpoint, weights_only=True
    )
    late = states(resumed)
    assert early.keys() == late.keys()
    assert not torch.equal(
        early["net.head.weight"],
        torch.load(checkpoint, weights_only=True)["state_dict"]["net.head.weight"],
    )
    for name, tensor in early.items():
        assert torch.equal(tensor, late[name]), name


@pytest.mark.parametrize("plugin", [Fp32Precision, Fp16Precision, Bf16Precision, Bf16TruePrecision])
def test_every_precision_trains_under_qat_with_fp32_scales(
    make_trainer: MakeTrainer, plugin: type[LadderPrecision]
) -> None:
    module = researcher()
    before = module.net.head.weight.detach().clone()
    make_trainer(WithoutArtifact("qat", target="net"), epochs=2, plugin=plugin()).fit(
        module, datamodule=data()
    )
    assert not torch.equal(before, module.net.head.weight.float())
    for layer in quantized_layers(module).values():
        assert layer.input_quantize.scale.dtype == torch.float32
        assert layer.weight_quantize.scale.dtype == torch.float32


def test_calibration_leaves_the_trained_module_as_it_was(make_trainer: MakeTrainer) -> None:
    class Compare(L.Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.state = {k: v.clone() for k, v in pl_module.state_dict().items()}

    compare, module = Compare(), researcher()
    make_trainer(Quantization("ptq", target="net"), compare, epochs=1).fit(
        module, datamodule=data()
    )
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, compare.state[name]), name


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"target": "nett"}, r"target='nett' is no submodule; did you mean 'net'"),
        ({"target": "net", "skip": ["haed"]}, r"skip: 'haed' matches no layer; .*'head'"),
        ({"target": "net", "only": ["x*"]}, r"only: 'x\*' matches no layer"),
    ],
)
def test_names_that_match_nothing_are_refused_before_training(
    make_trainer: MakeTrainer, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        make_trainer(Quantization("qat", **arguments), epochs=1).fit(
            researcher(), datamodule=data()
        )


def test_calibration_without_batches_is_refused() -> None:
    with pytest.raises(UserError, match="calibration_batches=0"):
        Quantization("ptq", calibration_batches=0)


def test_a_model_that_cannot_be_exported_names_the_line_after_the_first_batch(
    make_trainer: MakeTrainer,
) -> None:
    class Branches(Net):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:  # export cannot follow this line
                x = x + 1
            return super().forward(x)

    module = researcher()
    module.net = Branches()
    with pytest.raises(UserError, match=r"test_quantization\.py:\d+: if x\.sum\(\) > 0"):
        make_trainer(Quantization("qat", target="net"), epochs=1).fit(module, datamodule=data())


def test_several_children_and_no_forward_ask_for_a_target(make_trainer: MakeTrainer) -> None:
    module = researcher()
    module.other = nn.Linear(2, 2)
    with pytest.raises(UserError, match="name the one to quantize with target="):
        make_trainer(Quantization("qat"), epochs=1).fit(module, datamodule=data())


def test_the_only_child_is_the_target_by_default(make_trainer: MakeTrainer) -> None:
    module, callback = researcher(), WithoutArtifact("qat")
    make_trainer(callback, epochs=1).fit(module, datamodule=data())
    assert callback.model is module.net


def test_int8_that_is_too_far_from_training_names_the_layer(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    callback = Quantization("ptq", target="net", min_sqnr_db=500.0)
    with pytest.raises(RunError, match=r"layer (conv|head): .* SQNR"):
        make_trainer(callback, epochs=1).fit(researcher(), datamodule=data())
    assert not (tmp_path / "model_int8.pt2").exists()


@pytest.mark.parametrize("method", ["qat", "ptq"])
def test_other_weights_run_the_module_itself_and_the_artifacts_own_run_int8(
    make_trainer: MakeTrainer, tmp_path: Path, method: Method
) -> None:
    callback, module = Quantization(method, target="net"), researcher()
    trainer = make_trainer(callback, epochs=2)
    trainer.fit(module, datamodule=data())
    checkpoints = tmp_path / "checkpoints"
    given = data()
    given.setup("test")
    images = given.test_dataloader()

    def outputs(**arguments: Any) -> Tensor:
        batches = trainer.predict(module, images, **arguments)
        assert batches is not None
        return torch.cat([x for x in batches if isinstance(x, Tensor)])

    assert callback.deployment is not None
    int8 = torch.cat([callback.deployment.run(x) for x, _ in images])
    assert torch.equal(outputs(), int8)
    with pytest.warns(UserWarning, match="the weights are not those of model_int8.pt2"):
        earlier = outputs(ckpt_path=checkpoints / "epoch=0.ckpt")
    saved = torch.load(checkpoints / "epoch=0.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(x, saved[name]) for name, x in module.state_dict().items())
    module.eval()
    with torch.no_grad():
        assert torch.equal(earlier, torch.cat([module.net(x) for x, _ in images]))
    assert not torch.allclose(earlier, int8, atol=1e-3)
    assert torch.equal(outputs(ckpt_path=checkpoints / "epoch=1.ckpt"), int8)
