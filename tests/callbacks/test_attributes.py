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
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

from bitladder.callbacks.attributes import Attributes, State

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
        self.register_buffer("cache", torch.zeros(1), persistent=False)
        self.cache: Tensor
        self.early = 1
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
        self.cache.fill_(7)
        del self.early
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


class Bar(RichProgressBar):
    """Of a library's, whose attributes are that one's business."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0


def trainer(*callbacks: L.Callback) -> Any:
    return SimpleNamespace(callbacks=list(callbacks))


def changes(state: State) -> list[str]:
    """The attributes that a checkpoint changes."""
    return [key for part in state.values() for key in (*part["changed"], *part["gone"])]


def moved(trained: Module, fresh: Module, *callbacks: L.Callback) -> None:
    """What changes in one module is put back in the other."""
    here, there = Attributes(), Attributes()
    here.note(trainer(*callbacks), trained, resumed=False)
    assert not changes(here.changed(trainer(*callbacks), trained))
    trained.train_a_little()
    there.note(trainer(*callbacks), fresh, resumed=True)
    there.restore(trainer(*callbacks), fresh, here.changed(trainer(*callbacks), trained))


@pytest.mark.filterwarnings("ignore:checkpoints leave out")
def test_what_has_changed_is_put_back_in_place() -> None:
    fresh = Module()
    alpha, outputs, table = fresh.log_alpha, fresh.outputs, fresh.table
    fresh.lr = 0.2
    moved(Module(), fresh)
    assert fresh.part.calls == 1
    assert fresh.outputs == [torch.tensor(1.5)]
    assert fresh.outputs is outputs is fresh.alias
    assert fresh.counts == {"a": 2}
    assert fresh.counts["b"] == 0  # it is the defaultdict that it was
    assert list(fresh.recent) == [2.0, 3.0]
    assert fresh.table.tolist() == [0, 5, 0]
    assert fresh.table is table
    assert fresh.best == 0.25
    assert fresh.log_alpha is alpha  # which an optimizer may hold
    assert alpha.item() == 1
    assert fresh.lr == 0.2  # nothing has changed it
    assert fresh.weight.tolist() == [1, 1]  # which the state_dict has
    assert fresh.group[0] is fresh.weight
    assert not hasattr(fresh, "early")  # it was deleted
    assert fresh.cache.tolist() == [7]  # a buffer that is in no state_dict


def test_what_changes_and_is_no_value_is_told_once() -> None:
    module, attributes = Module(), Attributes()
    attributes.note(trainer(), module, resumed=False)
    module.train_a_little()
    with pytest.warns(UserWarning, match=r"checkpoints leave out module\.(model|view) \("):
        state = attributes.changed(trainer(), module)
    assert set(state["module"]["left"]) >= {"model", "view"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attributes.changed(trainer(), module)


class Ready(Module):
    """A hook of every process changes what the training changes back."""

    def train_a_little(self) -> None:
        self.best = "cold"


def test_what_was_changed_back_is_changed_back() -> None:
    trained, fresh = Ready(), Ready()
    trained.best = fresh.best = "cold"
    here, there = Attributes(), Attributes()
    for attributes, module in ((here, trained), (there, fresh)):
        attributes.note(trainer(), module, resumed=module is fresh)
        module.best = "warm"
    trained.train_a_little()
    there.restore(trainer(), fresh, here.changed(trainer(), trained))
    assert fresh.best == "cold"


def test_callbacks_are_known_by_their_class_wherever_they_stand() -> None:
    counting, second, other = Counting(), Counting(), Counting()
    attributes, module = Attributes(), Module()
    attributes.note(trainer(counting, second), module, resumed=True)
    counting.batches, second.batches = 3, 4
    state = attributes.changed(trainer(counting, second), module)
    Attributes().restore(trainer(L.Callback(), other), module, state)
    assert other.batches == 3


@pytest.mark.parametrize("kind", [Stateful, Bar])
def test_callbacks_with_a_state_of_their_own_are_left_to_it(kind: type[Counting]) -> None:
    attributes, callback, module = Attributes(), kind(), Module()
    attributes.note(trainer(callback), module, resumed=True)
    callback.batches = 1
    assert not changes(attributes.changed(trainer(callback), module))


def test_a_tensor_that_lives_elsewhere_too_is_not_written_over() -> None:
    trained, fresh = Module(), Module()
    trained.view, fresh.view = torch.zeros(2), fresh.weight.detach()
    here, there = Attributes(), Attributes()
    here.note(trainer(), trained, resumed=True)
    there.note(trainer(), fresh, resumed=True)
    trained.view = torch.full((2,), 5.0)
    there.restore(trainer(), fresh, here.changed(trainer(), trained))
    assert fresh.view.tolist() == [5, 5]
    assert fresh.weight.tolist() == [1, 1]


def test_lists_that_were_one_and_are_two_stay_two() -> None:
    trained, fresh = Module(), Module()
    here, there = Attributes(), Attributes()
    for attributes, module in ((here, trained), (there, fresh)):
        module.model = module.best = ["a", "b"]
        attributes.note(trainer(), module, resumed=module is fresh)
    trained.best = trained.best[1:]
    there.restore(trainer(), fresh, here.changed(trainer(), trained))
    assert (fresh.model, fresh.best) == (["a", "b"], ["b"])


def test_the_newest_list_of_a_history_is_the_one_that_grows() -> None:
    trained, fresh = Module(), Module()
    here, there = Attributes(), Attributes()
    for attributes, module in ((here, trained), (there, fresh)):
        module.model = []
        attributes.note(trainer(), module, resumed=module is fresh)
    trained.best = [0.5]
    trained.model.append(trained.best)
    there.restore(trainer(), fresh, here.changed(trainer(), trained))
    fresh.best.append(1.0)
    assert fresh.model == [[0.5, 1.0]]


def test_a_foreign_checkpoint_sets_neither_paths_nor_what_is_lightnings() -> None:
    module, attributes = Module(), Attributes()
    attributes.note(trainer(), module, resumed=True)
    hostile = {"changed": {"_modules": ["object", 0, None, "dict", []]}, "gone": ["_parameters"]}
    attributes.restore(trainer(), module, {"module": hostile | {"left": []}})
    assert module.part is module._modules["part"]
    assert module._parameters
    folder = {"changed": {"folder": "/etc/cron.d"}, "gone": [], "left": []}
    with pytest.raises(ValueError, match="path"):
        attributes.restore(trainer(), module, {"module": folder})


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([[0] * 300] * 300, lambda x: x[0].append(1)),
        ([0.0] * 20_000, lambda x: x.__setitem__(3, 1.0)),
        (dict.fromkeys(range(20_000)), lambda x: x.update(a=1)),
        (np.zeros(3), lambda x: x.fill(1)),
        (np.zeros((2, 3)).T, lambda x: x.fill(1)),
        (np.array("2026-11-30", dtype="M8[D]"), lambda x: x.fill(0)),
        ({"a": [torch.zeros(2)]}, lambda x: x["a"][0].data.add_(1)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_change_in_place_is_seen(value: Any, change: Any) -> None:
    module, attributes = Module(), Attributes()
    module.model = value
    attributes.note(trainer(), module, resumed=False)
    assert attributes.changed(trainer(), module) == {}
    change(value)
    assert list(attributes.changed(trainer(), module)["module"]["changed"]) == ["model"]


def test_what_is_very_large_is_left_out_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitladder.callbacks.attributes.LARGE", 1000)
    module, attributes = Module(), Attributes()
    attributes.note(trainer(), module, resumed=False)
    module.outputs.extend(torch.zeros(100) for _ in range(3))
    with pytest.warns(UserWarning, match=r"leave out module\.(outputs|alias) \(it has 0.0 GB"):
        assert attributes.changed(trainer(), module)["module"]["changed"] == {}


def test_a_value_that_is_too_large_is_not_copied_to_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitladder.callbacks.attributes.LARGE", 1000)
    module, attributes = Module(), Attributes()
    attributes.note(trainer(), module, resumed=False)
    module.outputs.append(torch.zeros(1000))
    monkeypatch.setattr("bitladder.callbacks.plain_graph.Packer._describe", pytest.fail)
    with pytest.warns(UserWarning, match="it has"):
        attributes._tell("module.outputs", module.outputs, attributes._packers(module)())


def test_what_is_nested_without_end_is_left_out_aloud() -> None:
    module, attributes = Module(), Attributes()
    attributes.note(trainer(), module, resumed=False)
    for _ in range(200):
        module.model = (1.0, module.model)
    with pytest.warns(UserWarning, match=r"module\.model \(more than 50 containers"):
        assert "model" not in changes(attributes.changed(trainer(), module))


def test_what_a_hook_does_again_to_what_was_changed_back_is_undone() -> None:
    here, there = Attributes(), Attributes()
    trained, fresh = Module(), Module()
    here.note(trainer(), trained, resumed=False)
    state = here.changed(trainer(), trained)
    there.note(trainer(), fresh, resumed=True)
    outputs = fresh.outputs
    outputs.append(torch.tensor(3.0))  # in on_train_start, say
    there.restore(trainer(), fresh, state)
    assert fresh.outputs is outputs
    assert outputs == []


def test_generators_are_left_to_those_who_know_them(recwarn: pytest.WarningsRecorder) -> None:
    module, attributes = Module(), Attributes()
    attributes.note(trainer(), module, resumed=False)
    module.model = torch.Generator()
    attributes.changed(trainer(), module)
    assert not [x for x in recwarn if "module.model" in str(x.message)]


class Wrapped(Module):
    """Saves what it wants, and has weights without memory of their own, as FSDP2 has."""

    def __init__(self) -> None:
        super().__init__()
        self.two = nn.Parameter(TwoTensor(torch.ones(2), torch.ones(2)))  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        return {}


@pytest.mark.filterwarnings("ignore:checkpoints leave out")
def test_modules_with_weights_and_states_of_their_own_kind() -> None:
    moved(Wrapped(), fresh := Wrapped())
    assert fresh.outputs == [torch.tensor(1.5)]


class Jitter(Data):
    """Augments by what the module holds when the batch is made."""

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        x, y = batch
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module
        if self.trainer.training:
            module.batches_made += 1
            x = x + module.scale * torch.randn_like(x)
        return [x, y]


class Collecting(Task):
    """The usual way to an epoch's mean, and things that it trains with."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Tensor] = []
        self.scale = 1.0
        self.batches_made = 0
        self.rng = np.random.default_rng(5)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx) * self.scale * self.rng.uniform(0.5, 1)
        self.losses.append(loss.detach())
        self.scale *= 0.97
        self.log("made", float(self.batches_made))
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
    whole = Fit(tmp_path / "whole").go(task=Collecting, data=Jitter(), **options)
    killed = Fit(tmp_path / "killed")
    killed.go(task=Collecting, data=Jitter(), kill_after=batches, **options)
    same(killed.go(task=Collecting, data=Jitter(), resume=True, **options), whole)
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
        batches = 0

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            assert self.trainer is not None
            self.batches += self.trainer.training
            return super().on_before_batch_transfer(batch, dataloader_idx)

    data, again = Counted(), Counted()
    Fit(tmp_path).go(data=data, kill_after=4)
    Fit(tmp_path).go(data=again, resume=True)
    assert (data.batches, again.batches) == (5, 27 - 4)
