"""fp8 as the hardware computes it. Needs a GPU of compute capability 8.9."""

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bitladder import Bf16Precision, Fp8Precision, Fp32Precision
from bitladder.models import VisionTransformer
from bitladder.precision.fp8.linear import Fp8Linear
from bitladder.precision.fp8.report import LinearRecord
from bitladder.precision.fp8.upstream import Recipe, float8_template

pytestmark = [
    pytest.mark.gpu,
    # What torch and its compiler say of themselves differs from version to version.
    pytest.mark.filterwarnings("ignore"),
]
RECIPES: list[Recipe] = ["tensorwise", "rowwise", "rowwise_with_gw_hp"]
BATCH, STEPS, CLASSES, SIDE = 64, 500, 16, 16
Make = Callable[..., Any]


class Images(L.LightningModule):
    """A small vision transformer that tells noisy patterns apart, with some labels wrong."""

    def __init__(self, compiled: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = VisionTransformer((1, SIDE, SIDE), CLASSES, dim=128, depth=2, heads=4)
        self.losses: list[Tensor] = []
        if compiled:
            self.net.compile(fullgraph=True)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]).float(), batch[1])
        self.losses.append(loss.detach())
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        loss = nn.functional.cross_entropy(self.net(batch[0]).float(), batch[1])
        self.log("loss", loss, batch_size=len(batch[1]))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def final_loss(self) -> float:
        """The mean over the last 100 steps."""
        return statistics.fmean(loss.item() for loss in self.losses[-100:])


def batches(count: int, batch: int = BATCH) -> DataLoader[tuple[Tensor, ...]]:
    """Samples that never repeat; a fifth of the labels is drawn anew, so the loss has a floor."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randn(CLASSES, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(CLASSES, (count * batch,), generator=generator)
    noise = torch.randn(count * batch, 1, SIDE, SIDE, generator=generator)
    wrong = torch.rand(count * batch, generator=generator) < 0.2
    anew = torch.randint(CLASSES, (count * batch,), generator=generator)
    targets = torch.where(wrong, anew, labels)
    return DataLoader(TensorDataset(patterns[labels] + noise, targets), batch_size=batch)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def reference_losses() -> dict[str, float]:
    """Final losses in fp32 and bf16, by name."""
    losses = {}
    for name, plugin in (("fp32", Fp32Precision()), ("bf16", Bf16Precision())):
        task = Images()
        _fit(task, plugin)
        losses[name] = task.final_loss()
    return losses


def _fit(task: Images, plugin: Precision, **kwargs: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cuda",
        devices=1,
        max_epochs=1,
        plugins=[plugin],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, kwargs.get("loader") or batches(STEPS), batches(1))
    return trainer


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_final_loss_is_that_of_fp32_and_bf16(
    recipe: Recipe, compiled: bool, reference_losses: dict[str, float]
) -> None:
    task, plugin = Images(compiled), Fp8Precision(recipe=recipe)
    _fit(task, plugin)
    assert plugin.effective()["device"] == "cuda"
    # Six linears a block; the head is the last layer, the first one is a convolution.
    assert [record.executed for record in plugin.records] == [True] * 12 + [False]
    for name, loss in reference_losses.items():
        assert task.final_loss() == pytest.approx(loss, rel=0.02), name
    assert task.losses[0].item() > 1.5 * task.final_loss()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("verb", ["validate", "test"])
def test_evaluation_alone_is_that_of_bf16(
    verb: str, recipe: Recipe, compiled: bool, make_trainer: Make
) -> None:
    task = Images(compiled)
    scores = [
        getattr(make_trainer(plugin, accelerator="cuda"), verb)(task, batches(2), verbose=False)
        for plugin in (Bf16Precision(), Fp8Precision(recipe=recipe))
    ]
    assert scores[0] == scores[1]


def test_a_checkpoint_goes_to_a_plain_model_and_back(make_trainer: Make, tmp_path: Path) -> None:
    path = tmp_path / "fp8.ckpt"
    task = Images()
    _fit(task, Fp8Precision(), loader=batches(20)).save_checkpoint(path)
    state = torch.load(path, weights_only=True)["state_dict"]
    plain = Images()
    plain.load_state_dict(state)
    in_bf16 = make_trainer(Bf16Precision(), accelerator="cuda").test(
        plain, batches(2), verbose=False
    )
    resumed = Images()
    trainer = make_trainer(Fp8Precision(), accelerator="cuda", max_epochs=2)
    trainer.fit(resumed, batches(20), batches(1), ckpt_path=path)
    assert len(resumed.losses) == 20
    assert resumed.losses[-1] < task.losses[0]
    again = make_trainer(Fp8Precision(), accelerator="cuda").test(
        Images(), batches(2), ckpt_path=path, verbose=False
    )
    assert again == in_bf16


@pytest.mark.parametrize("compiled", [False, True])
def test_auto_times_every_shape_and_trains(compiled: bool) -> None:
    task, plugin = Images(compiled), Fp8Precision(layers="auto")
    _fit(task, plugin, loader=batches(20))
    timed = plugin.records[:-1]
    for record in timed:
        assert record.bf16_ms is not None
        assert record.fp8_ms is not None
        assert record.executed == (record.kept is None)
        assert record.seen is not None
        assert (record.seen.tokens, record.seen.compiled) == (BATCH * 64, compiled)
    assert all(loss.isfinite() for loss in task.losses)


def test_a_large_linear_pays_and_a_small_one_does_not() -> None:
    from bitladder.precision.fp8.auto import MARGIN, time_linear
    from bitladder.precision.fp8.report import Seen

    def ratio(size: int, tokens: int) -> float:
        record = LinearRecord("", size, size)
        template = float8_template("tensorwise", emulate=False)
        linear = nn.Linear(size, size, bias=False, device="cuda")
        layer = Fp8Linear.adopt(linear, template, record)
        bf16, fp8 = time_linear(layer, Seen(tokens, torch.bfloat16, compiled=True))
        return fp8 / bf16

    assert ratio(4096, 16384) < MARGIN
    assert ratio(128, 256) > MARGIN


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", [(64, 32), (2, 16, 32), (3, 7, 32), (5, 32)])
def test_the_hardware_computes_what_emulation_does(recipe: Recipe, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(*shape, device="cuda")
    g = torch.randn(*shape[:-1], 48, device="cuda")
    results = []
    for emulate in (False, True):
        torch.manual_seed(1)
        template = float8_template(recipe, emulate=emulate)
        linear = nn.Linear(32, 48, device="cuda")
        layer = Fp8Linear.adopt(linear, template, LinearRecord("", 32, 48))
        input = x.clone().requires_grad_()
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
            y = layer(input)
        y.backward(g.bfloat16())
        assert input.grad is not None
        assert layer.weight.grad is not None
        assert layer.bias.grad is not None
        results.append((y, input.grad, layer.weight.grad, layer.bias.grad))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        error = (found.float() - expected.float()).norm() / expected.float().norm()
        assert error < 0.01
