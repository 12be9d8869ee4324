"""`validate_float`: the float model is scored beside the quantized one, nothing else changes."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ModelPruning
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MaxMetric, MetricCollection, MinMetric
from torchmetrics.classification import MulticlassAccuracy

from bitladder import (
    Bf16Precision,
    Bf16TruePrecision,
    Fp16Precision,
    Fp32Precision,
    LastCheckpoint,
    Quantization,
    RandomState,
)
from bitladder.errors import UserError
from bitladder.precision.base import LadderPrecision
from bitladder.quantization import quantized_layers, set_quantizing

from .conftest import MakeTrainer, Researcher, WithoutArtifact, data
from .resuming import KillAfter, KilledError

Batch = tuple[Tensor, Tensor]


class Scores(Researcher):
    """Scores in all the ways that people do, and draws random numbers as it does."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy = MulticlassAccuracy(4, average="micro")
        self.both = MetricCollection(
            {"top1": MulticlassAccuracy(4), "top2": MulticlassAccuracy(4, top_k=2)}
        )
        self.best = MaxMetric()
        self.outputs: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.seen = 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses = [loss]  # with its history
        return loss

    def validation_step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        x, y = batch
        torch.rand(1)
        logits = self.net(x).float()
        self.accuracy(logits, y)
        self.both.update(logits, y)
        self.log("val/loss", F.cross_entropy(logits, y))
        self.log("val/accuracy", self.accuracy, on_step=True, on_epoch=True)
        self.log_dict(self.both)
        self.outputs.append(logits)
        self.seen += 1
        return logits

    def on_validation_epoch_start(self) -> None:
        self.outputs = []

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat(self.outputs)
        self.log("val/spread", logits.std())
        self.best.update(logits.std())
        self.log("val/largest", self.best.compute())


def scores(seed: int = 0) -> Scores:
    L.seed_everything(seed, verbose=False)
    return Scores()


def qat(*, validate_float: bool = True, **arguments: Any) -> WithoutArtifact:
    settings: dict[str, Any] = {"target": "net"} | arguments
    return WithoutArtifact("qat", validate_float=validate_float, **settings)


def trainer(*callbacks: L.Callback, **arguments: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": any(isinstance(x, ModelCheckpoint) for x in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [Fp32Precision()],
        "callbacks": list(callbacks),
    }
    return L.Trainer(**settings | arguments)


class Logged(L.Callback):
    """Keeps the metrics and the random state after every validation."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[dict[str, Tensor]] = []
        self.random: list[Tensor] = []
        self.checked: set[str] = set()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.random.append(torch.get_rng_state())
        if trainer.sanity_checking:
            self.checked |= trainer.callback_metrics.keys()
            return
        self.metrics.append({k: v.clone() for k, v in trainer.callback_metrics.items()})


def test_training_and_quantized_scores_are_bit_identical_with_and_without() -> None:
    logs: list[Logged] = []
    modules: list[Scores] = []
    for validate_float in (False, True):
        logged, module = Logged(), scores()
        trainer(qat(validate_float=validate_float), logged, val_check_interval=0.5).fit(
            module, datamodule=data()
        )
        logs.append(logged)
        modules.append(module)
    without, both = logs
    assert len(both.metrics) == 4
    assert "float/val/loss" in both.checked, "the sanity check scores both, too"
    for before, after in zip(without.metrics, both.metrics, strict=True):
        for name, value in before.items():
            assert torch.equal(value, after[name]), name
        extra = {name.removeprefix("float/") for name in after.keys() - before.keys()}
        assert extra == {name for name in before if not name.startswith("train/")}
    assert all(torch.equal(x, y) for x, y in zip(without.random, both.random, strict=True))
    plain, scored = modules
    for name, value in plain.state_dict().items():
        assert torch.equal(value, scored.state_dict()[name]), name
    for name, layer in quantized_layers(plain).items():
        twin = quantized_layers(scored)[name]
        assert torch.equal(layer.weight_quantize.scale, twin.weight_quantize.scale)
        assert twin.weight_quantize.quantizing
    assert plain.seen == scored.seen
    assert len(plain.outputs) == len(scored.outputs)
    assert {x.training for x in scored.modules()} == {x.training for x in plain.modules()}


def test_the_float_scores_are_those_of_a_validation_without_rounding() -> None:
    logged, module = Logged(), scores()
    trainer(qat(), logged).fit(module, datamodule=data())
    both = logged.metrics[-1]
    set_quantizing(module, False)
    (alone,) = trainer().validate(module, datamodule=data(), verbose=False)
    assert both["val/loss"] != both["float/val/loss"]
    assert alone.keys() >= {"val/loss", "val/spread", "top1", "val/accuracy_epoch"}
    for name, value in alone.items():
        if name != "val/largest":
            assert both[f"float/{name}"].item() == pytest.approx(value, rel=1e-6), name
    spreads = [x["float/val/spread"].item() for x in logged.metrics]
    assert both["float/val/largest"].item() == pytest.approx(max(spreads))


@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before")
@pytest.mark.parametrize("kills", [(6,), (13,), (4, 5)])  # validated is after every third
def test_a_resumed_training_scores_the_float_model_as_the_whole_one(
    tmp_path: Path, kills: tuple[int, ...]
) -> None:
    class Least(Scores):
        """Its metric is best at the start, so that one that forgets the start shows."""

        def __init__(self) -> None:
            super().__init__()
            self.least = MinMetric()

        def on_validation_epoch_end(self) -> None:
            super().on_validation_epoch_end()
            self.least.update(torch.cat(self.outputs).std())
            self.log("val/least", self.least.compute())

    def fit(folder: str, kill_after: int | None = None) -> list[dict[str, Tensor]]:
        L.seed_everything(0, verbose=False)
        logged, last = Logged(), tmp_path / folder / "checkpoints" / "last.ckpt"
        callbacks = (LastCheckpoint(every_n_steps=1), RandomState(), logged, KillAfter(kill_after))
        options: dict[str, Any] = {"max_epochs": 3, "default_root_dir": tmp_path / folder}
        run = trainer(*callbacks, qat(), val_check_interval=0.5, **options)
        with suppress(KilledError):
            start = last if last.exists() else None
            run.fit(Least(), datamodule=data(), ckpt_path=start, weights_only=True)
        return logged.metrics

    whole = fit("whole")
    for kill in kills:
        fit("killed", kill)
    resumed = fit("killed")  # which goes on with what its callback has logged
    for metrics, expected in zip(resumed, whole, strict=True):
        assert metrics.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(value, metrics[name]), name
    assert whole[-1]["float/val/least"] == whole[0]["float/val/spread"]
    assert whole[-1]["float/val/least"] < whole[-1]["float/val/spread"]


@pytest.mark.parametrize("plugin", [Fp16Precision, Bf16Precision, Bf16TruePrecision])
def test_every_precision_trains_as_it_does_without(plugin: type[LadderPrecision]) -> None:
    states: list[dict[str, Tensor]] = []
    for validate_float in (False, True):
        module, logged = scores(), Logged()
        callback = qat(validate_float=validate_float)
        trainer(callback, logged, plugins=[plugin()]).fit(module, datamodule=data())
        states.append(module.state_dict())
        assert ("float/val/loss" in logged.metrics[-1]) == validate_float
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


def test_several_loaders_are_scored_each(tmp_path: Path) -> None:
    class Two(Scores):
        def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
            self.log(f"val/{dataloader_idx}", 1.0 + dataloader_idx, add_dataloader_idx=False)
            return super().validation_step(batch, batch_idx, dataloader_idx)

    given = data()
    given.setup("fit")
    L.seed_everything(0, verbose=False)
    module, logged = Two(), Logged()
    loaders = [given.val_dataloader(), given.train_dataloader()]
    trainer(qat(), logged, max_epochs=1, num_sanity_val_steps=2).fit(
        module, given.train_dataloader(), loaders
    )
    (metrics,) = logged.metrics
    set_quantizing(module, False)
    for index, alone in enumerate(trainer().validate(module, loaders, verbose=False)):
        assert f"val/loss/dataloader_idx_{index}" in alone
        for name, value in alone.items():
            if name.endswith(f"idx_{index}"):
                assert metrics[f"float/{name}"].item() == pytest.approx(value, rel=1e-6), name
        assert metrics[f"float/val/{index}"] == 1.0 + index


def test_checkpoints_and_stopping_may_follow_the_float_metric(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", monitor="float/val/loss", mode="min")
    stop = EarlyStopping("float/val/loss", patience=1, min_delta=100.0)
    module = scores()
    logger = CSVLogger(tmp_path, name="", version="")
    run = trainer(stop, qat(), best, max_epochs=9, logger=logger, log_every_n_steps=1)
    run.fit(module, datamodule=data())
    assert run.current_epoch == 2
    assert best.best_model_score is not None
    csv = (tmp_path / "metrics.csv").read_text()
    header, *rows = (line.split(",") for line in csv.splitlines())
    losses = [row[header.index("float/val/loss")] for row in rows]
    assert min(float(x) for x in losses if x) == pytest.approx(float(best.best_model_score))
    saved = torch.load(best.best_model_path, weights_only=True)["callbacks"]
    layers = saved["Quantization[net]"]["layers"].values()
    assert all(layer["weight"]["quantizing"] for layer in layers)


@pytest.mark.slow
def test_after_conversion_the_artifact_and_the_float_model_are_scored(
    make_trainer: MakeTrainer,
) -> None:
    callback, module = Quantization("qat", target="net", validate_float=True), scores()
    run = make_trainer(callback, epochs=1)
    (before,) = run.validate(module, datamodule=data(), verbose=False)
    assert before["float/val/loss"] == before["val/loss"]
    run.fit(module, datamodule=data())
    (after,) = run.validate(module, datamodule=data(), verbose=False)
    assert callback.deployment is not None
    given = data()
    given.setup("fit")
    batches = list(given.val_dataloader())

    def loss(model: Any) -> float:
        with torch.no_grad():
            logits = torch.cat([model(x) for x, _ in batches])
        return F.cross_entropy(logits, torch.cat([y for _, y in batches])).item()

    assert after["val/loss"] == pytest.approx(loss(callback.deployment.run), rel=1e-6)
    assert after["float/val/loss"] == pytest.approx(loss(callback.float_model), rel=1e-5)
    assert after["val/loss"] != after["float/val/loss"]
    x = batches[0][0]
    assert torch.equal(module.net(x), callback.deployment.run(x)), "int8 goes on to run"


def test_a_module_that_is_its_own_target_is_scored_twice() -> None:
    class Itself(Scores):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.losses = [loss]
            return loss

    L.seed_everything(0, verbose=False)
    module, logged = Itself(), Logged()
    trainer(qat(target=None), logged).fit(module, datamodule=data())
    assert logged.metrics[-1]["val/loss"] != logged.metrics[-1]["float/val/loss"]
    assert all(x.weight_quantize.quantizing for x in quantized_layers(module).values())


def test_two_callbacks_score_one_float_model() -> None:
    class Two(Scores):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(self.net, nn.Linear(4, 4))  # pyright: ignore[reportAttributeAccessIssue]

    L.seed_everything(0, verbose=False)
    module, logged = Two(), Logged()
    passes: list[bool] = []
    module.net.register_forward_hook(lambda net, *_: passes.append(net.training))
    callbacks = qat(target="net.0", artifact="0.pt2"), qat(target="net.1", artifact="1.pt2")
    run = trainer(*callbacks, logged, num_sanity_val_steps=0)
    run.fit(module, datamodule=data())
    (batches,) = run.num_val_batches
    assert passes.count(False) == 2 * run.current_epoch * batches
    set_quantizing(module, False)
    (alone,) = trainer().validate(module, datamodule=data(), verbose=False)
    assert logged.metrics[-1]["float/val/loss"].item() == pytest.approx(alone["val/loss"])


def test_pruning_goes_with_it() -> None:
    module, logged = scores(), Logged()
    pruning = ModelPruning(
        "l1_unstructured",
        parameters_to_prune=[(module.net.head, "weight")],
        amount=0.5,
        use_lottery_ticket_hypothesis=False,
        apply_pruning=lambda epoch: epoch == 0,
    )
    trainer(qat(), pruning, logged).fit(module, datamodule=data())
    assert "float/val/loss" in logged.metrics[-1]


@pytest.mark.filterwarnings("ignore:.*`dataloader_iter`")
def test_a_step_that_takes_an_iterator_is_refused() -> None:
    class Iterates(Researcher):
        def validation_step(self, dataloader_iter: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            pass

    loader = DataLoader(TensorDataset(torch.zeros(4, 1, 8, 8), torch.zeros(4).long()))
    with pytest.raises(UserError, match=r"takes an iterator.*validate_float=false"):
        trainer(qat()).validate(Iterates(), loader, verbose=False)
