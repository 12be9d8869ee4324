import csv
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.plugins.precision import DoublePrecision, MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.nn import functional as F

from bitladder import (
    Bf16Precision,
    Bf16TruePrecision,
    Fp16Precision,
    Fp32Precision,
    NumericsMonitor,
    Tf32Precision,
)
from bitladder.callbacks import numerics_sample
from bitladder.callbacks.numerics import training_format
from bitladder.errors import UserError
from bitladder.formats import FLOAT_FORMATS
from bitladder.metrics import Part, part_of

from .numerics_helpers import Memory, Smooth, batches, fit, trainer

DOCUMENT = Path(__file__).parents[2] / "docs" / "numerics.md"
SHARES = ("underflow", "subnormal", "saturated")
FIGURES = {"amax", "zero", "nonfinite", *SHARES} | {
    f"{format}/{share}" for format in FLOAT_FORMATS for share in SHARES
}
UNSCALED_FP16 = {"init_scale": 1.0, "growth_interval": 10**6}


def test_a_sample_has_every_figure_of_every_tensor() -> None:
    rows = fit(NumericsMonitor(), Smooth(), Fp16Precision())
    expected = {
        f"numerics/{tensor}/{module}/{figure}"
        for tensor in ("weight", "activation", "gradient", "weight_gradient")
        for module in ("net.0", "net.2", "net.4")
        for figure in FIGURES
    }
    whole = {f"numerics/{key}" for key in ("loss_scale", "skipped_steps", "gradient_norm")}
    assert rows[0].keys() == expected | whole
    assert all(math.isfinite(value) for value in rows[0].values())


def test_the_documented_keys_are_those_that_are_logged() -> None:
    keys = re.findall(r"^\| `(numerics/[^`]+)`", DOCUMENT.read_text(), flags=re.MULTILINE)
    alternatives = {"<format>": "|".join(FLOAT_FORMATS), "<index>": r"\d+", "<module>": "net.[024]"}
    patterns = []
    for key in keys:
        pattern = re.sub(r"\{([a-z_,]+)\}", lambda m: f"({m[1].replace(',', '|')})", key)
        for name, choices in alternatives.items():
            pattern = pattern.replace(name, f"({choices})")
        patterns.append(pattern)
    logged = fit(NumericsMonitor(), Smooth(), Fp16Precision())[0]
    for key in logged:
        assert sum(re.fullmatch(pattern, key) is not None for pattern in patterns) == 1, key
    for pattern in patterns:
        if r"\d+" not in pattern:
            assert any(re.fullmatch(pattern, key) for key in logged), pattern


def test_without_scaling_fp16_gradients_underflow_and_with_the_scaler_they_do_not() -> None:
    """The network soon knows its few samples, and its gradients become small."""
    settings: dict[str, Any] = {"max_epochs": 20, "loader": batches(size=256)}
    bare = fit(NumericsMonitor(100), Smooth(), Fp16Precision(**UNSCALED_FP16), **settings)[100]
    scaled = fit(NumericsMonitor(100), Smooth(), Fp16Precision(), **settings)[100]
    full = fit(NumericsMonitor(100), Smooth(), Fp32Precision(), **settings)[100]
    for layer in ("net.0", "net.2", "net.4"):
        gradient = f"numerics/gradient/{layer}"
        # As the backward pass had them: most were rounded to zero or to a few bits.
        assert bare[f"{gradient}/zero"] > 0.1
        assert bare[f"{gradient}/zero"] + bare[f"{gradient}/subnormal"] > 0.6
        assert scaled[f"{gradient}/zero"] < 0.05
        assert scaled[f"{gradient}/zero"] + scaled[f"{gradient}/subnormal"] < 0.3
        # What underflowed is what the two other runs say would.
        for run in (scaled, full):
            assert run[f"{gradient}/fp16/underflow"] == pytest.approx(
                bare[f"{gradient}/zero"], abs=0.1
            )
        assert full[f"{gradient}/zero"] == full[f"{gradient}/bf16/underflow"] == 0.0
    assert (bare["numerics/loss_scale"], scaled["numerics/loss_scale"]) == (1.0, 65536.0)


@pytest.mark.parametrize(
    ("every", "accumulate", "steps"), [(4, 1, [0, 4, 8]), (2, 3, [0, 2]), (100, 1, [0])]
)
def test_samples_are_of_every_nth_optimizer_step(
    every: int, accumulate: int, steps: list[int]
) -> None:
    rows = fit(NumericsMonitor(every), Smooth(), accumulate_grad_batches=accumulate)
    assert list(rows) == steps


def test_a_resumed_run_looks_at_the_same_steps_and_the_checkpoint_knows_nothing_of_it(
    tmp_path: Path,
) -> None:
    straight = fit(NumericsMonitor(6), Smooth(), max_epochs=3)
    memory, path = Memory(), tmp_path / "half.ckpt"
    first = trainer([NumericsMonitor(6)], memory)
    first.fit(Smooth(), batches())
    first.save_checkpoint(path)
    assert not torch.load(path, weights_only=True)["callbacks"]
    again = trainer([NumericsMonitor(6)], memory, max_epochs=3)
    again.fit(Smooth(), batches(), ckpt_path=path, weights_only=True)
    assert list(straight) == [0, 6, 12, 18, 24]
    assert memory.rows == straight


@pytest.mark.parametrize("plugin", [Fp32Precision, Fp16Precision, Bf16Precision, Bf16TruePrecision])
def test_training_is_the_same_to_the_bit(plugin: Any) -> None:
    watched, alone = Smooth(), Smooth()
    fit(NumericsMonitor(2, modules=["*"]), watched, plugin(), gradient_clip_val=0.1)
    trainer([], plugin=plugin(), gradient_clip_val=0.1).fit(alone, batches())
    for left, right in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(left, right)


def test_between_samples_there_are_no_hooks_and_nothing_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: set[int] = set()
    hooked: set[int] = set()

    class Looks(Smooth):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
            if self.net[0]._forward_hooks:
                hooked.add(self.global_step)
            return super().training_step(batch, batch_idx)

    def counting(x: Tensor) -> Part:
        counted.add(module.global_step)
        return part_of(x)

    monkeypatch.setattr(numerics_sample, "part_of", counting)
    module = Looks()
    fit(NumericsMonitor(5), module)
    assert counted == hooked == {0, 5}
    assert not any(child._forward_hooks for child in module.modules())


def test_the_norm_is_of_unscaled_gradients_before_they_are_clipped() -> None:
    norms = []

    class Norms(Smooth):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            norms.append(nn.utils.get_total_norm(gradients).item())

    rows = fit(NumericsMonitor(1), Norms(), Fp16Precision(), gradient_clip_val=0.001)
    assert [row["numerics/gradient_norm"] for row in rows.values()] == pytest.approx(norms)
    assert min(norms) > 0.01


def test_a_skipped_step_is_counted_and_its_infinite_gradients_seen() -> None:
    rows = fit(NumericsMonitor(1), Smooth(), Fp16Precision(init_scale=2.0**24))
    assert rows[0]["numerics/skipped_steps"] == 1
    assert rows[0]["numerics/loss_scale"] == 2.0**24
    assert rows[0]["numerics/gradient/net.4/nonfinite"] > 0
    assert not math.isfinite(rows[0]["numerics/gradient_norm"])
    last = rows[9]
    assert last["numerics/loss_scale"] == 2.0 ** (24 - last["numerics/skipped_steps"])
    assert last["numerics/gradient/net.4/nonfinite"] == 0


@pytest.mark.parametrize("fused", [False, True])
def test_lightnings_own_fp16_gives_the_same_figures(fused: bool) -> None:
    class Fused(Smooth):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.01, fused=fused)

    theirs = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    one = fit(NumericsMonitor(3), Fused(), theirs)
    other = fit(NumericsMonitor(3), Fused(), Fp16Precision())
    assert one.keys() == other.keys()
    for step, row in one.items():
        ours = dict(other[step])
        assert ours.pop("numerics/skipped_steps") == 0
        assert row == pytest.approx(ours)


def test_double_precision_has_no_training_format_but_the_others() -> None:
    class Double(Smooth):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
            return F.cross_entropy(self.net(batch[0]), batch[1])

    (row,) = fit(NumericsMonitor(), Double(), DoublePrecision()).values()
    assert row["numerics/activation/net.0/e4m3/subnormal"] > 0
    assert "numerics/activation/net.0/subnormal" not in row
    assert "numerics/loss_scale" not in row


def test_the_training_format_is_that_of_the_plugin() -> None:
    plugins = [Fp32Precision, Tf32Precision, Fp16Precision, Bf16Precision, Bf16TruePrecision]
    names = [training_format(plugin()) for plugin in plugins]
    assert [name and name.name for name in names] == ["fp32", "tf32", "fp16", "bf16", "bf16"]
    assert training_format(MixedPrecision("bf16-mixed", "cpu")) is FLOAT_FORMATS["bf16"]


def test_two_optimizers_in_manual_optimization_have_a_norm_each() -> None:
    class Pair(Smooth):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizers = self.optimizers()
            assert isinstance(optimizers, list)
            for optimizer in optimizers:
                optimizer.zero_grad()
                loss = F.cross_entropy(self.net(batch[0]).float(), batch[1])
                self.manual_backward(loss)
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [
                torch.optim.SGD(self.net[:3].parameters(), lr=0.1),
                torch.optim.AdamW(self.net[3:].parameters(), lr=0.01),
            ]

    rows = fit(NumericsMonitor(6), Pair(), Fp16Precision())
    assert list(rows) == [0, 6, 12, 18]
    for row in rows.values():
        assert row["numerics/gradient_norm/0"] != row["numerics/gradient_norm/1"]
        assert "numerics/gradient_norm" not in row
        assert {"numerics/weight_gradient/net.0/zero", "numerics/weight_gradient/net.4/zero"} <= {
            *row
        }


@pytest.mark.filterwarnings("ignore:.*returned .None.")  # Lightning says so once a process
def test_a_step_without_loss_leaves_out_what_there_is_not() -> None:
    class Skips(Smooth):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
            return None if batch_idx == 0 else super().training_step(batch, batch_idx)

    rows = fit(NumericsMonitor(1), Skips(), Fp16Precision())
    assert {key.split("/")[1] for key in rows[0]} == {"weight", "skipped_steps"}
    assert "numerics/gradient_norm" in rows[1]


def test_csv_and_wandb_get_the_same_keys(tmp_path: Path) -> None:
    class Run:
        def __init__(self) -> None:
            self.rows: list[dict[str, float]] = []

        def log(self, row: dict[str, float]) -> None:
            self.rows.append(row)

    run: Any = Run()
    loggers = (CSVLogger(tmp_path, "", ""), WandbLogger(experiment=run, save_dir=tmp_path))
    trainer([NumericsMonitor()], *loggers, max_steps=1).fit(Smooth(), batches())
    with (tmp_path / "metrics.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["numerics/gradient_norm"]]
    (theirs,) = [dict(row) for row in run.rows if "numerics/gradient_norm" in row]
    assert theirs.pop("trainer/global_step") == float(row.pop("step")) == 0
    ours = {key: float(value) for key, value in row.items() if key.startswith("numerics/")}
    assert ours == theirs


def test_hooks_are_taken_off_when_training_fails() -> None:
    class Fails(Smooth):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
            super().training_step(batch, batch_idx)
            raise RuntimeError("no more")

    module = Fails()
    with pytest.raises(RuntimeError, match="no more"):
        fit(NumericsMonitor(), module)
    assert not any(child._forward_hooks for child in module.modules())


def test_patterns_choose_any_module_and_formats_the_questions() -> None:
    monitor = NumericsMonitor(modules=["net.[01]"], formats=["e5m2"])
    (row,) = fit(monitor, Smooth()).values()
    assert {key.split("/")[2] for key in row if key.count("/") > 1} == {"net.0", "net.1"}
    assert {key.split("/")[3] for key in row if key.count("/") == 4} == {"e5m2"}
    assert "numerics/weight/net.1/zero" not in row


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"every": 0}, "NumericsMonitor: every=0: write 1 or more"),
        ({"formats": ["fp61"]}, "there is no float format fp61; did you mean fp16?"),
        (
            {"modules": ["net.0", "nett.2"]},
            "NumericsMonitor: modules: 'nett.2' matches no module; did you mean 'net.2'?",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=re.escape(line)):
        fit(NumericsMonitor(**settings), Smooth())


def test_without_a_logger_it_is_refused() -> None:
    with pytest.raises(UserError, match="nowhere to write without a logger"):
        trainer([NumericsMonitor()]).fit(Smooth(), batches())


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_strategies_that_split_tensors_are_refused(strategy: Any) -> None:
    split: Any = SimpleNamespace(loggers=[Memory()], strategy=object.__new__(strategy))
    with pytest.raises(UserError, match=f"whole tensors, but {strategy.__name__} gives each rank"):
        NumericsMonitor().on_fit_start(split, Smooth())


@pytest.mark.filterwarnings("ignore:GPU available but not used")
@pytest.mark.gpu
@pytest.mark.parametrize("plugin", [Fp32Precision, Fp16Precision, Bf16Precision, Bf16TruePrecision])
def test_on_a_gpu_figures_are_those_of_the_cpu(plugin: Any) -> None:
    """Kernels differ in the last bits, so shares do a little."""
    cpu = fit(NumericsMonitor(), Smooth(), plugin())[0]
    gpu = fit(NumericsMonitor(), Smooth(), plugin(), accelerator="gpu")[0]
    assert gpu == pytest.approx(cpu, abs=0.05, rel=0.05)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_between_samples_nothing_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    idle_calls = []

    def strict(hook: Any) -> Any:
        def call(monitor: NumericsMonitor, trainer: L.Trainer, *args: Any) -> None:
            idle = monitor._sample is None and trainer.global_step < monitor._next_step
            idle_calls.append(idle)
            torch.cuda.set_sync_debug_mode("error" if idle else "default")
            try:
                hook(monitor, trainer, *args)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return call

    for name in (
        "on_train_batch_start",
        "on_before_backward",
        "on_before_optimizer_step",
        "on_train_batch_end",
    ):
        monkeypatch.setattr(NumericsMonitor, name, strict(getattr(NumericsMonitor, name)))
    plugin = Fp16Precision(init_scale=1024.0)  # without overflow, so that every step has all hooks
    rows = fit(NumericsMonitor(4), Smooth(), plugin, accelerator="gpu")
    assert list(rows) == [0, 4, 8]
    # Seven steps between samples; after the third and the sixth the next sample has come.
    assert idle_calls.count(True) == 4 * 7 - 2
