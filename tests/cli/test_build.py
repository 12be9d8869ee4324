import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bitladder.cli.build import instantiate
from bitladder.errors import RunError, UserError


class Holder:
    """Keeps what it got; refuses in the way that it is told."""

    def __init__(self, error: str | None = None, **given: Any) -> None:
        errors: dict[str, Exception] = {
            "value": ValueError("too\nbig"),
            "user": UserError("write less"),
            "run": RunError("it broke"),
            "fault": AttributeError(),
            "size": RuntimeError("cannot allocate\nframe #0"),
            "zero": ZeroDivisionError("division by zero"),
            "memory": MemoryError(),
        }
        if error is not None:
            raise errors[error]
        self.given = given


HOLDER = {"_target_": "holders.Holder"}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("holders")
    module.__dict__["Holder"] = Holder
    monkeypatch.setitem(sys.modules, "holders", module)


def test_lists_and_mappings_arrive_as_such() -> None:
    given = instantiate({**HOLDER, "sizes": [1, [2]], "names": {"a": [1]}}, "model").given
    assert given == {"sizes": [1, [2]], "names": {"a": [1]}}
    assert type(given["sizes"]) is list
    assert type(given["names"]["a"]) is list


def test_nested_nodes_are_built() -> None:
    inner = instantiate({**HOLDER, "inner": [HOLDER]}, "model").given["inner"][0]
    assert isinstance(inner, Holder)


def test_supplied_objects_arrive_untouched_and_win() -> None:
    net, nodes = torch.nn.Linear(1, 1), [HOLDER]
    given = instantiate({**HOLDER, "net": 1}, "task", net=net, nodes=nodes).given
    assert given["net"] is net
    assert given["nodes"] is nodes


def test_a_partial_node_waits_for_the_rest() -> None:
    node = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5}
    optimizer = instantiate(node, "optimizer")([torch.zeros(1, requires_grad=True)])
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_refusal_names_the_place() -> None:
    with pytest.raises(UserError) as caught:
        instantiate({**HOLDER, "error": "value"}, "callbacks.holder")
    assert str(caught.value) == f"callbacks.holder ({HOLDER['_target_']}): too big"


@pytest.mark.parametrize(
    ("error", "says"),
    [("size", "cannot allocate"), ("zero", "division by zero"), ("memory", r"MemoryError\(\)")],
)
def test_sizes_and_factors_that_cannot_be_are_refused(error: str, says: str) -> None:
    with pytest.raises(UserError, match=rf"^model \(.*Holder\): {says}$"):
        instantiate({**HOLDER, "error": error}, "model")


def test_a_refusal_of_a_partial_node_comes_when_it_is_called() -> None:
    build = instantiate({"_target_": "torch.optim.SGD", "_partial_": True, "lr": -1}, "optimizer")
    with pytest.raises(UserError, match=r"optimizer \(torch.optim.SGD\): Invalid learning rate"):
        build([torch.zeros(1, requires_grad=True)])


def test_a_refusal_of_a_nested_node_is_told_without_hydras_words() -> None:
    with pytest.raises(UserError, match=r"model \(.*Holder\): too big$"):
        instantiate({**HOLDER, "inner": {**HOLDER, "error": "value"}}, "model")


@pytest.mark.parametrize(("error", "kind"), [("user", UserError), ("run", RunError)])
@pytest.mark.parametrize("nested", [False, True])
def test_our_own_errors_pass(error: str, kind: type[Exception], nested: bool) -> None:
    node: dict[str, Any] = {**HOLDER, "error": error}
    with pytest.raises(kind, match=r"write less|it broke"):
        instantiate({**HOLDER, "inner": node} if nested else node, "model")


def test_lightnings_refusals_are_the_users() -> None:
    node = {"_target_": "lightning.Trainer", "accelerator": "abacus"}
    with pytest.raises(UserError, match=r"trainer \(lightning.Trainer\): .*abacus"):
        instantiate(node, "trainer")


def test_a_fault_stays_a_fault() -> None:
    with pytest.raises(AttributeError):
        instantiate({**HOLDER, "error": "fault"}, "model")


def test_paths_of_targets_outside_the_package(tmp_path: Path) -> None:
    assert instantiate({"_target_": "pathlib.Path", "_args_": [str(tmp_path)]}, "x") == tmp_path
