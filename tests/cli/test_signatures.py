import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bitladder.cli.signatures import Supplied, check_node
from bitladder.errors import UserError


class Net:
    """Has every kind of parameter."""

    def __init__(
        self, shape: list[int], *, width: int, rate: float = 0.1, sizes: Sequence[int] = (1,)
    ) -> None:
        pass


class Open:
    """Takes anything else too."""

    def __init__(self, inner: Net, **rest: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("things")
    module.__dict__.update(Net=Net, Open=Open)
    monkeypatch.setitem(sys.modules, "things", module)


def _net(**arguments: Any) -> dict[str, Any]:
    return {"_target_": "things.Net", **arguments}


@pytest.mark.parametrize(
    "node",
    [
        _net(shape=[1], width=3),
        _net(shape=[1], width=3, rate=1, sizes=[1, 2]),
        _net(_args_=[[1]], width=3),
        _net(_partial_=True),
        {"_target_": "things.Open", "inner": _net(shape=[1], width=3), "more": "x"},
    ],
)
def test_right_arguments_pass(node: dict[str, Any]) -> None:
    check_node(node, "model")


@pytest.mark.parametrize(
    ("node", "line"),
    [
        (_net(shape=[1], width=3, widht=4), "model has no widht; did you mean width?"),
        (_net(shape=[1]), "model.width is missing: things.Net needs it"),
        (_net(shape=[1], width="wide"), "model.width=wide: expected int"),
        (_net(shape=[1], width=3, rate="fast"), "model.rate=fast: expected float"),
        (_net(shape=[1], width=3, sizes=[1, 2.5]), "model.sizes=[1, 2.5]: expected a list of int"),
        (_net(_partial_=True, widht=3), "model has no widht"),
        (_net(_partial_="yes"), "model._partial_=yes: expected true or false"),
        (_net(_args_=3), "model._args_=3: expected a list"),
        ({"width": 3}, "model lacks _target_"),
        ({"_target_": 3}, "model._target_=3: expected text"),
        ({"_target_": "things.Nett"}, "model._target_=things.Nett: there is no things.Nett"),
        ({"_target_": "things.Open", "inner": _net()}, "model.inner.shape is missing"),
        ({"_target_": "things.Open", "inner": [_net()]}, "model.inner[0].shape is missing"),
        ({"_target_": "things.Open", "inner": {"a": _net()}}, "model.inner.a.shape is missing"),
        ({"_target_": "things.Open", "inner": 3}, "model.inner=3: expected Net"),
    ],
)
def test_wrong_arguments_are_named(node: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        check_node(node, "model")
    assert str(caught.value).startswith(line)


def test_what_the_program_supplies_is_not_missing_and_not_to_be_given() -> None:
    supplied = Supplied(named={"shape": "data=..."})
    check_node(_net(width=3), "model", supplied)
    with pytest.raises(UserError, match=r"model.shape comes from data=...: leave it out here"):
        check_node(_net(shape=[1], width=3), "model", supplied)


def test_a_target_must_take_what_the_program_passes() -> None:
    with pytest.raises(UserError, match=r"things.Net takes no depth, which the program passes"):
        check_node(_net(width=3), "model", Supplied(named={"depth": "data=..."}))


def test_what_the_program_fills_in_may_be_given() -> None:
    supplied = Supplied(defaults=("shape", "name"))
    check_node(_net(width=3), "logger", supplied)
    check_node(_net(width=3, shape=[1]), "logger", supplied)


def test_a_leading_parameter_may_be_supplied_whatever_its_name() -> None:
    check_node(_net(width=3, _partial_=True), "model", Supplied(positional=1))
    with pytest.raises(UserError, match=r"model.width is missing"):
        check_node(_net(_partial_=True), "model", Supplied(positional=1))


def test_a_function_without_a_signature_passes() -> None:
    check_node({"_target_": "builtins.dict", "anything": 1}, "model")


@given(name=st.from_regex(r"[a-z]{1,10}", fullmatch=True), value=st.integers())
def test_any_key_that_is_no_parameter_is_refused(name: str, value: int) -> None:
    assume(name not in ("shape", "width", "rate", "sizes"))
    with pytest.raises(UserError, match=f"model has no {name}"):
        check_node(_net(shape=[1], width=3, **{name: value}), "model")
