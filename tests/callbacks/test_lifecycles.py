"""What else a Trainer does, around and during quantization-aware training."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
)
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bitladder import Fp32Precision, Quantization, RandomState
from bitladder.errors import UserError
from bitladder.quantization import quantized_layers
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.recipe import Method
from bitladder.quantization.trees import tensors

from .conftest import MakeTrainer, Net, Researcher, WithoutArtifact, data, researcher

pytestmark = pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`, callbacks used to create the checkpoint"
)


def qat(**arguments: Any) -> WithoutArtifact:
    settings: dict[str, Any] = {"target": "net"} | arguments
    return WithoutArtifact("qat", **settings)


def trainer(*callbacks: L.Callback, **arguments: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "logger": False,
        "enable_checkpointing": any(isinstance(x, ModelCheckpoint) for x in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [Fp32Precision()],
        "callbacks": list(callbacks),
    }
    return L.Trainer(**settings | arguments)


def rounds(module: nn.Module) -> bool:
    layers = quantized_layers(module).values()
    return all(x.weight_quantize.quantizing and x.input_quantize.quantizing for x in layers)


def ranges_are_finite(module: nn.Module) -> bool:
    scales = [x.weight_quantize.scale for x in quantized_layers(module).values()]
    return all(bool(scale.isfinite().all() and (scale > 0).all()) for scale in scales)


class Two(Researcher):
    """A model of two parts, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(Net(), nn.Linear(4, 4))  # pyright: ignore[reportAttributeAccessIssue]


class Modes(L.Callback):
    """Notes, a batch, what runs and whether dropout and BatchNorm train."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[tuple[bool, bool]]] = {}

    def note(self, stage: str, module: L.LightningModule) -> None:
        assert isinstance(module, Researcher)
        modes = (module.net.drop.training, module.net.norm.training)
        self.seen.setdefault(stage, set()).add(modes)

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        self.note(f"train {trainer.current_epoch}", pl_module)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        stage = "sanity" if trainer.sanity_checking else f"validate {trainer.current_epoch}"
        self.note(stage, pl_module)


def test_dropout_and_batchnorm_are_in_the_right_mode_at_every_step() -> None:
    modes = Modes()
    trainer(qat(freeze_batchnorm=2), modes).fit(researcher(), datamodule=data())
    assert modes.seen == {
        "sanity": {(False, False)},
        "train 0": {(True, True)},
        "validate 0": {(False, False)},
        "train 1": {(True, True)},
        "validate 1": {(False, False)},
        "train 2": {(True, False)},  # frozen, as the schedule says
        "validate 2": {(False, False)},
    }


def test_every_stage_may_come_before_the_fit() -> None:
    module, plain, runner = researcher(), researcher(), trainer(qat())
    given = data()
    given.setup("test")
    metrics = [
        run.validate(model, datamodule=given, verbose=False)
        + run.test(model, datamodule=given, verbose=False)
        for model, run in ((module, runner), (plain, trainer()))
    ]
    assert metrics[0] == metrics[1]
    images = given.test_dataloader()
    before = runner.predict(module, images)
    expected = trainer().predict(plain, images)
    assert before is not None
    assert expected is not None
    assert all(torch.equal(x, y) for x, y in zip(before, expected, strict=True))  # pyright: ignore[reportArgumentType]
    runner.fit(module, datamodule=given)
    assert rounds(module)


def test_gradients_accumulate_and_are_clipped() -> None:
    class Norms(L.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.before: list[Tensor] = []
            self.stepped: list[Tensor] = []

        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            def note(*_: Any) -> None:
                self.stepped.append(norm(pl_module))

            trainer.optimizers[0].register_step_post_hook(note)

        def on_before_optimizer_step(
            self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
        ) -> None:
            self.before.append(norm(pl_module))

    def norm(module: nn.Module) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])

    norms, module = Norms(), researcher()
    run = trainer(qat(), norms, accumulate_grad_batches=2, gradient_clip_val=0.1)
    run.fit(module, datamodule=data())
    assert run.global_step == 3 * -(-int(run.num_training_batches) // 2)
    assert rounds(module)
    before, stepped = torch.stack(norms.before), torch.stack(norms.stepped)
    assert before.max() > 0.1
    torch.testing.assert_close(stepped, before.clamp(max=0.1), rtol=1e-3, atol=0.0)


def test_the_best_checkpoint_is_of_the_quantized_metric_and_training_stops_early(
    tmp_path: Path,
) -> None:
    best = ModelCheckpoint(tmp_path, monitor="val/loss", mode="min")
    stop = EarlyStopping("val/loss", patience=1, min_delta=100.0)
    module = researcher()
    run = trainer(qat(freeze_observers=1.0), best, stop, max_epochs=9)
    run.fit(module, datamodule=data())
    assert run.current_epoch == 2
    assert best.best_model_score is not None
    again = researcher(seed=3)
    with torch.random.fork_rng():
        (scored,) = trainer(qat()).validate(
            again, datamodule=data(), ckpt_path=best.best_model_path, verbose=False
        )
    assert rounds(again)
    assert scored["val/loss"] == pytest.approx(float(best.best_model_score), rel=1e-6)


def test_stochastic_weight_averaging_leaves_averaged_weights_with_their_own_ranges() -> None:
    module = researcher()
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, annealing_epochs=1)
    trainer(qat(), averaging).fit(module, datamodule=data())
    assert rounds(module)
    assert ranges_are_finite(module)
    averaged = averaging._average_model
    assert averaged is not None
    for x, y in zip(module.parameters(), averaged.parameters(), strict=True):
        assert torch.equal(x, y)
    assert module.net.norm.running_mean is not None
    assert module.net.norm.running_mean.any(), "frozen as averaging had reset it"
    layer = quantized_layers(module)["net.head"]
    expected = layer.weight_quantize.scheme.qparams(
        layer.weight.amin(1).detach(), layer.weight.amax(1).detach()
    )
    torch.testing.assert_close(layer.weight_quantize.scale, expected[0])


@pytest.mark.parametrize("method", ["ptq", "dynamic"])
def test_a_moving_average_of_the_weights_is_what_it_is_without_quantization(method: Method) -> None:
    plain = researcher()
    trainer(EMAWeightAveraging(decay=0.9)).fit(plain, datamodule=data())
    quantized, callback = researcher(), WithoutArtifact(method, target="net")
    trainer(callback, EMAWeightAveraging(decay=0.9)).fit(quantized, datamodule=data())
    for name, x in plain.state_dict().items():
        assert torch.equal(x, quantized.state_dict()[name]), name


@pytest.mark.slow
def test_the_artifact_is_made_of_the_averaged_weights(make_trainer: MakeTrainer) -> None:
    callback, module, given = Quantization("ptq", target="net"), researcher(), data()
    averaging = EMAWeightAveraging(decay=0.9)
    run = make_trainer(callback, averaging, epochs=2)
    run.fit(module, datamodule=given)
    assert averaging._average_model is not None
    averaged = averaging._average_model.module.get_submodule("net").state_dict()
    assert callback.float_model is not None
    for name, x in callback.float_model.state_dict().items():
        assert torch.equal(x, averaged[name]), name
    run.validate(module, datamodule=given, verbose=False)  # warns if the artifact did not run


def test_a_moving_average_that_would_pair_other_tensors_is_refused() -> None:
    ptq = WithoutArtifact("ptq", target="net")
    with pytest.raises(UserError, match="write Quantization before it in the trainer's callbacks"):
        trainer(EMAWeightAveraging(), ptq).fit(researcher(), datamodule=data())


def test_a_moving_average_of_the_weights_under_qat_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="write StochasticWeightAveraging"):
        trainer(qat(), EMAWeightAveraging()).fit(researcher(), datamodule=data())


def test_the_learning_rate_finder_leaves_model_and_ranges_as_they_were(tmp_path: Path) -> None:
    class WithRate(Researcher):
        lr = 0.01

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=self.lr)

    L.seed_everything(0, verbose=False)
    module = WithRate()
    before = {name: x.clone() for name, x in module.state_dict().items()}
    run = trainer(qat(), default_root_dir=tmp_path)
    Tuner(run).lr_find(module, datamodule=data(), num_training=5, update_attr=False)
    for name, x in module.state_dict().items():
        assert torch.equal(x, before[name]), name
    for layer in quantized_layers(module).values():
        assert not layer.weight_quantize.quantizing
        assert isinstance(layer.input_quantize, FakeQuantize)
        assert not layer.input_quantize.observer.saw_data
    run.fit(module, datamodule=data())
    assert rounds(module)


def test_a_float_checkpoint_from_before_is_fine_tuned(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="float")
    plain = researcher()
    trainer(keep, max_epochs=1, plugins=[]).fit(plain, datamodule=data())
    saved = torch.load(tmp_path / "float.ckpt", weights_only=True)["state_dict"]
    module = researcher(seed=5)
    module.load_state_dict(saved)  # weights alone
    trainer(qat(), max_epochs=1).fit(module, datamodule=data())
    assert rounds(module)
    resumed = researcher(seed=5)  # the whole state: goes on at the second epoch
    run = trainer(qat(), max_epochs=2, plugins=[])
    run.fit(resumed, datamodule=data(), ckpt_path=tmp_path / "float.ckpt")
    assert run.current_epoch == 2
    assert rounds(resumed)


def test_pruned_weights_stay_zero_under_qat() -> None:
    module = researcher()
    pruning = ModelPruning(
        "l1_unstructured",
        parameters_to_prune=[(module.net.head, "weight")],
        amount=0.5,
        use_lottery_ticket_hypothesis=False,
        apply_pruning=lambda epoch: epoch == 0,
    )
    trainer(qat(), pruning).fit(module, datamodule=data())
    weight = module.net.head.weight
    assert int((weight == 0).sum()) == weight.numel() // 2
    assert rounds(module)
    assert module.state_dict().keys() == researcher().state_dict().keys()


def test_two_callbacks_quantize_two_submodules() -> None:
    module = researcher()
    module.net.head = nn.Linear(8, 4)
    conv, head = qat(only=["conv"]), qat(target="net.head", artifact="head.pt2")
    with pytest.raises(UserError, match="quantized by another callback"):
        trainer(conv, head).fit(module, datamodule=data())

    two = Two()
    first, second = qat(target="net.0", start=1), qat(target="net.1", artifact="1.pt2")
    trainer(first, second, max_epochs=1).fit(two, datamodule=data())
    assert not rounds(first.model)
    assert rounds(second.model)


def test_two_callbacks_that_would_write_one_artifact_are_refused() -> None:
    first, second = qat(target="net.0"), qat(target="net.1")
    with pytest.raises(UserError, match=r"two Quantization callbacks write model_int8\.pt2"):
        trainer(first, second).fit(Two(), datamodule=data())


@pytest.mark.slow
def test_two_callbacks_leave_two_artifacts_that_run_one_after_the_other(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    two, given = Two(), data()
    first = Quantization("qat", target="net.0", artifact="body.pt2")
    second = Quantization("ptq", target="net.1", artifact="head.pt2")
    run = make_trainer(first, second, epochs=1)
    run.fit(two, datamodule=given)
    given.setup("test")
    (predicted, *_) = run.predict(two, given.test_dataloader()) or []
    body, head = (
        torch._inductor.aoti_load_package(str(tmp_path / name)) for name in ("body.pt2", "head.pt2")
    )
    x = next(iter(given.test_dataloader()))[0]
    assert torch.equal(predicted, head(body(x)))  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_second_fit_goes_on_in_qat_and_converts_again(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    callback, module, given = Quantization("qat", target="net"), researcher(), data()
    run = make_trainer(callback, epochs=1)
    run.fit(module, datamodule=given)
    first, weights = callback.deployment, module.net.head.weight.detach().clone()
    written = (tmp_path / "model_int8.pt2").read_bytes()
    run.fit_loop.max_epochs = 2
    run.fit(module, datamodule=given)
    assert run.current_epoch == 2
    assert rounds(module)
    assert not torch.equal(weights, module.net.head.weight), (
        "int8 was trained, which learns nothing"
    )
    assert callback.deployment is not None
    assert callback.deployment is not first
    assert (tmp_path / "model_int8.pt2").read_bytes() != written
    given.setup("test")
    x, _ = next(iter(given.test_dataloader()))
    assert torch.equal(module.net(x), callback.deployment.run(x))
    (metrics,) = run.validate(module, datamodule=given, verbose=False)
    batches = list(given.val_dataloader())
    logits = torch.cat([callback.deployment.run(x) for x, _ in batches])
    loss = nn.functional.cross_entropy(logits, torch.cat([y for _, y in batches]))
    assert metrics["val/loss"] == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:You.re resuming from a")
@pytest.mark.parametrize("step", [2, 7, 11, 14])
def test_a_run_resumed_within_any_phase_equals_the_uninterrupted_one(
    tmp_path: Path, step: int
) -> None:
    given = data()
    given.setup("fit")
    # One batch again and again, as Lightning starts loaders anew in the middle of an epoch.
    batches = [next(iter(given.train_dataloader()))] * 3
    loader = DataLoader(batches, batch_size=None)  # pyright: ignore[reportArgumentType]

    def fit(module: Researcher, folder: Path, resume: Path | None = None) -> dict[str, Any]:
        keep = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
        moments = {"start": 0.3, "freeze_observers": 0.5, "freeze_batchnorm": 0.8}
        trainer(qat(**moments), RandomState(), keep, max_epochs=5).fit(
            module, loader, loader, ckpt_path=resume, weights_only=True
        )
        return torch.load(folder / "step=15.ckpt", weights_only=True)

    whole = fit(researcher(), tmp_path / "whole")
    checkpoint = tmp_path / "whole" / f"step={step}.ckpt"
    phase = torch.load(checkpoint, weights_only=True)["callbacks"]["Quantization[net]"]
    weight = phase["layers"]["conv"]["weight"]
    assert (weight["quantizing"], weight["observing"]) == (step > 5, 5 < step < 9)
    resumed = fit(researcher(seed=7), tmp_path / "resumed", checkpoint)
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(resumed[part], whole[part], rtol=0.0, atol=0.0)
    key = "Quantization[net]"
    torch.testing.assert_close(
        tensors(resumed["callbacks"][key]), tensors(whole["callbacks"][key]), rtol=0.0, atol=0.0
    )


def test_a_module_built_in_configure_model_is_quantized() -> None:
    class Late(Researcher):
        def __init__(self) -> None:
            L.LightningModule.__init__(self)
            self.net = None  # pyright: ignore[reportAttributeAccessIssue]

        def configure_model(self) -> None:
            if self.net is None:
                self.net = Net()

    module = Late()
    trainer(qat()).fit(module, datamodule=data())
    assert rounds(module)
    assert quantized_layers(module).keys() == {"net.conv", "net.head"}


# The compiler hides this warning of its own, but not where warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_model_trains_as_it_does_uncompiled() -> None:
    eager = researcher()
    trainer(qat(start=1), max_epochs=2).fit(eager, datamodule=data())
    compiled = researcher()
    compiled.net.compile(backend="eager")
    trainer(qat(start=1), max_epochs=2).fit(compiled, datamodule=data())
    assert rounds(compiled)
    state = compiled.state_dict()
    for name, x in eager.state_dict().items():
        torch.testing.assert_close(state[name], x, rtol=1e-4, atol=1e-5)
