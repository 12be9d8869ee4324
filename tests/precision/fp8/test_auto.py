"""layers=auto: measured once, decided for all ranks, kept in the checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitladder import Bf16Precision, Fp8Precision
from bitladder.precision.fp8 import auto
from bitladder.precision.fp8.linear import Fp8Linear
from bitladder.precision.fp8.report import LinearRecord, Seen
from bitladder.precision.fp8.upstream import float8_template

Make = Callable[..., Any]
SEEN = Seen(tokens=16, dtype=torch.float32, compiled=False)


def layer(name: str, out_features: int = 16, seen: Seen | None = SEEN) -> Fp8Linear:
    record = LinearRecord(name, 16, out_features, seen=seen)
    template = float8_template("tensorwise", emulate=True)
    adopted = Fp8Linear.adopt(nn.Linear(16, out_features), template, record)
    adopted.fp8_mode = "watch"
    return adopted


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Replaces the clock: fp8 wins in `down` (64 to 32 features), and loses elsewhere."""
    calls: list[tuple[int, int, int]] = []

    def time_linear(layer: Fp8Linear, seen: Seen) -> tuple[float, float]:
        calls.append((layer.in_features, layer.out_features, seen.tokens))
        return (2.0, 1.0) if layer.in_features == 64 else (1.0, 2.0)

    monkeypatch.setattr(auto, "time_linear", time_linear)
    return calls


def test_both_are_really_timed_and_random_numbers_go_on() -> None:
    watched = layer("up", 64)
    state = torch.get_rng_state()
    bf16_ms, fp8_ms = auto.time_linear(watched, SEEN)
    assert 0 < bf16_ms < fp8_ms  # emulation is never faster
    assert torch.equal(torch.get_rng_state(), state)
    assert watched.weight.grad is None


def test_every_shape_is_timed_once(timed: list[Any]) -> None:
    layers = [layer("a"), layer("b"), layer("c", 32), layer("unused", seen=None)]
    times = auto.measure(layers)
    assert sorted(timed) == [(16, 16, 16), (16, 32, 16)]
    assert times.keys() == {"a", "b", "c"}


def test_fp8_must_win_by_more_than_noise() -> None:
    layers = [layer(name) for name in ("wins", "even", "unused")]
    auto.settle(layers, {"wins": (1.0, 0.9), "even": (1.0, 0.96)})
    assert [x.fp8_mode for x in layers] == ["fp8", "bf16", "bf16"]
    kept = [x.fp8_record.kept for x in layers]
    assert kept[0] is None
    assert kept[1] == "layers=auto: 0.960 ms in fp8, 1.000 ms in bf16"
    assert "first training step" in str(kept[2])


def test_a_fit_decides_after_its_first_step(
    timed: list[Any], make_task: Any, ids: Any, make_trainer: Make
) -> None:
    plugin, modes = Fp8Precision(emulate=True, layers="auto"), []

    class Looks(make_task):
        def on_before_zero_grad(self, optimizer: Any) -> None:
            blocks = self.net.blocks
            modes.append((blocks[0].up.fp8_mode, blocks[1].down.fp8_mode))

    make_trainer(plugin, max_epochs=1).fit(Looks(), ids, ids)
    assert modes[:3] == [("watch", "watch"), ("bf16", "fp8"), ("bf16", "fp8")]
    assert sorted(timed) == [(32, 64, 64), (64, 32, 64)]
    assert [r.name for r in plugin.records if r.executed] == [
        "net.blocks.0.down",
        "net.blocks.1.down",
    ]
    report = plugin.report()
    assert report is not None
    assert report["linears"][0]["reason"] == "layers=auto: 2.000 ms in fp8, 1.000 ms in bf16"
    assert (report["linears"][1]["bf16_ms"], report["linears"][1]["tokens"]) == (2.0, 64)


def test_where_nothing_pays_all_computes_as_bf16_and_that_is_said(
    make_task: Make, ids: Any, make_trainer: Make
) -> None:
    task, plugin = make_task(), Fp8Precision(emulate=True, layers="auto")
    with pytest.warns(UserWarning, match="fp8 is faster for no linear of this model"):
        make_trainer(plugin, max_epochs=1).fit(task, ids, ids)
    assert not any(record.executed for record in plugin.records)
    reference = make_task()
    make_trainer(Bf16Precision(), max_epochs=1).fit(reference, ids, ids)
    assert task.losses == reference.losses


def test_a_resumed_fit_keeps_the_decision(
    timed: list[Any], make_task: Make, ids: Any, make_trainer: Make, tmp_path: Path
) -> None:
    path = tmp_path / "half.ckpt"
    trainer = make_trainer(Fp8Precision(emulate=True, layers="auto"), max_epochs=1)
    trainer.fit(make_task(), ids, ids)
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    timed.clear()
    plugin = Fp8Precision(emulate=True, layers="auto")
    make_trainer(plugin, max_epochs=2).fit(make_task(), ids, ids, ckpt_path=path)
    assert timed == []
    assert [r.name for r in plugin.records if r.executed] == [
        "net.blocks.0.down",
        "net.blocks.1.down",
    ]
