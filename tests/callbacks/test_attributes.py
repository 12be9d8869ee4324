"""What a module keeps in plain attributes goes on with it, and nothing else does."""

import warnings
from collections import defaultdict, deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitladder.callbacks.attributes import Attributes

from .resuming import Data, Fit, Task, same

pytestmark = pytest.mark.filterwarnings("ignore")


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.part = Part()
        self.weight = nn.Parameter(torch.ones(2))
        self.group = [self.weight]
        self.view: Tensor | None = None
        self.lr = 0.1
        self.outputs: list[Tensor] = []
        self.alias = self.outputs
        self.counts: dict[str, int] = defaultdict(int)
        self.recent: deque[float] = deque(maxlen=2)
        self.table = np.zeros(3)
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.model: Any = object()

    def train_a_little(self) -> None:
        self.part.calls += 1
        self.outputs.append(torch.tensor(1.5))
        self.counts["a"] += 2
        self.recent.extend([1.0, 2.0, 3.0])
        self.table[1] = 5
        self.best: Any = 0.25
        self.model = object()
        self.view = self.weight.detach()[:1]
        with torch.no_grad():
            self.log_alpha += 1
            self.weight += 1


class Counting(L.Callback):
    def __init__(self) -> None:
        self.batches = 0


class Stateful(Counting):
    def state_dict(self) -> dict[str, Any]:
        return {}


def trainer(*callbacks: L.Callback) -> Any:
    return SimpleNamespace(callbacks=list(callbacks))


def test_what_has_changed_is_put_back_in_place() -> None:
    trained, attributes, counting = Module(), Attributes(), Counting()
    attributes.note(trainer(counting), trained)
    assert attributes.changed(trainer(counting), trained) == {}
    trained.train_a_little()
    counting.batches = 3
    state = attributes.changed(trainer(counting), trained)

    fresh, other = Module(), Counting()
    alpha, outputs = fresh.log_alpha, fresh.outputs
    fresh.lr = 0.2
    Attributes().restore(trainer(other), fresh, state)
    assert fresh.part.calls == 1
    assert fresh.outputs == [torch.tensor(1.5)]
    assert fresh.outputs is outputs is fresh.alias
    assert fresh.counts == {"a": 2}
    assert fresh.counts["b"] == 0  # it is the defaultdict that it was
    assert list(fresh.recent) == [2.0, 3.0]
    assert fresh.table.tolist() == [0, 5, 0]
    assert fresh.best == 0.25
    assert fresh.log_alpha is alpha  # which an optimizer may hold
    assert alpha.item() == 1
    assert other.batches == 3


def test_what_has_not_changed_or_is_no_value_stays() -> None:
    trained, attributes = Module(), Attributes()
    attributes.note(trainer(), trained)
    trained.train_a_little()
    state = attributes.changed(trainer(), trained)
    assert not {"lr", "weight", "group", "view", "model", "training"} & state["module"].keys()


def test_callbacks_with_a_state_of_their_own_are_left_to_it() -> None:
    attributes, stateful, module = Attributes(), Stateful(), Module()
    attributes.note(trainer(stateful), module)
    stateful.batches = 1
    assert attributes.changed(trainer(stateful), module) == {}


def test_a_tensor_at_the_address_of_one_that_is_gone_is_another() -> None:
    module, attributes = Module(), Attributes()
    module.best = torch.zeros(1)
    attributes.note(trainer(), module)
    for _ in range(10):
        module.best = torch.zeros(1)
        assert "best" in attributes.changed(trainer(), module)["module"]


def test_a_tensor_that_lives_elsewhere_too_is_not_written_over() -> None:
    trained, fresh, attributes = Module(), Module(), Attributes()
    trained.view, fresh.view = torch.zeros(2), fresh.weight.detach()
    attributes.note(trainer(), trained)
    trained.view = torch.full((2,), 5.0)
    Attributes().restore(trainer(), fresh, attributes.changed(trainer(), trained))
    assert fresh.view.tolist() == [5, 5]
    assert fresh.weight.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([[0] * 300] * 300, lambda x: x.append(1)),
        (dict.fromkeys(range(20_000)), lambda x: x.update(a=1)),
        (np.zeros(3), lambda x: x.fill(1)),
        (np.zeros((2, 3)).T, lambda x: x.fill(1)),
        (np.array("2026-11-30", dtype="M8[D]"), lambda x: x.fill(0)),
        ({"a": [torch.zeros(2)]}, lambda x: x["a"][0].add_(1)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_change_in_place_is_seen(value: Any, change: Any) -> None:
    module, attributes = Module(), Attributes()
    module.model = value
    attributes.note(trainer(), module)
    assert attributes.changed(trainer(), module) == {}
    change(value)
    assert list(attributes.changed(trainer(), module)["module"]) == ["model"]


def test_what_is_very_large_is_left_out_aloud_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitladder.callbacks.attributes.LARGE", 1000)
    module, attributes = Module(), Attributes()
    attributes.note(trainer(), module)
    module.outputs.extend(torch.zeros(100) for _ in range(3))
    with pytest.warns(UserWarning, match=r"leave out module\.outputs, of 0.0 GB"):
        assert "outputs" not in attributes.changed(trainer(), module).get("module", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attributes.changed(trainer(), module)


class Collecting(Task):
    """The usual way to an epoch's mean, and things that it trains with."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Tensor] = []
        self.scale = 1.0
        self.rng = np.random.default_rng(5)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx) * self.scale * self.rng.uniform(0.5, 1)
        self.losses.append(loss.detach())
        self.scale *= 0.97
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("train/collected", torch.stack(self.losses).mean())
        self.losses.clear()

    def on_fit_start(self) -> None:
        assert self.logger is not None
        self.logger.log_metrics({"by_hand/fit": 1.0}, step=0)

    def on_train_start(self) -> None:
        assert self.logger is not None
        self.logger.log_metrics({"by_hand/train": 1.0}, step=0)
        self.log("at_start", 3.0)


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 3}], ids=str)
@pytest.mark.parametrize("batches", [2, 4, 9, 12, 26])
def test_a_resumed_training_collects_and_logs_what_the_whole_one_does(
    tmp_path: Path, batches: int, options: dict[str, Any]
) -> None:
    whole = Fit(tmp_path / "whole").go(task=Collecting, **options)
    killed = Fit(tmp_path / "killed").go(task=Collecting, kill_after=batches, **options)
    same(killed.go(task=Collecting, resume=True, **options), whole)
    assert sum("by_hand/fit" in row for row in whole.rows) == 1
    assert sum("by_hand/train" in row for row in whole.rows) == 1
    assert sum("at_start" in row for row in whole.rows) == 1
    assert sum("train/collected" in row for row in whole.rows) == 3


def test_a_training_that_is_over_has_them_for_what_follows(tmp_path: Path) -> None:
    fit = Fit(tmp_path).go(task=Collecting)
    rows = list(fit.rows)
    again = fit.go(task=Collecting, resume=True)
    assert again.rows == rows
    assert again.task.scale == pytest.approx(0.97**27)


def test_the_data_module_is_read_anew_and_not_put_back(tmp_path: Path) -> None:
    class Counted(Data):
        loads = 0

        def train_dataloader(self) -> Any:
            self.loads += 1
            return super().train_dataloader()

    data = Counted()
    Fit(tmp_path).go(data=data, kill_after=4)
    again = Counted()
    Fit(tmp_path).go(data=again, resume=True)
    assert again.loads == data.loads == 1
