import functools
import io
from collections import Counter, OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bitladder.cli.checkpoint_values import without_objects
from bitladder.errors import UserError

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.binary(min_size=1, max_size=3),
    st.sampled_from([torch.float16, torch.device("cpu"), torch.Size([2, 3]), 1 + 2j]),
    st.sampled_from([OrderedDict(a=[1]), Counter("aab")]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def read(checkpoint: dict[str, Any]) -> Any:
    content = io.BytesIO()
    torch.save(checkpoint, content)
    content.seek(0)
    return torch.load(content, weights_only=True)


@given(TREES)
def test_what_it_lets_pass_is_read_without_running_code(tree: Any) -> None:
    checkpoint, left_out = without_objects({"tree": tree})
    assert read(checkpoint) == {"tree": tree}
    assert left_out == []


def test_tensors_stay_the_very_tensors() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    checkpoint, _ = without_objects({"state_dict": OrderedDict(weight=weight)})
    assert checkpoint["state_dict"]["weight"] is weight


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float64(1), "numpy.float64"),
        (np.ones(2), "numpy.ndarray"),
        (functools.partial(print), "functools.partial"),
        (lambda: 1, "builtins.function"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (deque([1]), "collections.deque"),
    ],
)
def test_what_would_run_code_is_named(value: Any, kind: str) -> None:
    callbacks = {"Best": {"scores": [1.0, {"a": value}]}}
    with pytest.raises(UserError, match=r"callbacks\.Best\.scores\[1\]\.a, a " + kind):
        without_objects({"state_dict": {}, "callbacks": callbacks})


def test_a_key_that_would_run_code_is_found() -> None:
    with pytest.raises(UserError, match=r"cannot hold scores, a numpy\.int64"):
        without_objects({"scores": {np.int64(3): 1.0}})


def test_hyperparameters_that_are_no_plain_values_are_left_out_and_named() -> None:
    hyperparameters = {"lr": 0.1, "net": torch.nn.Linear(1, 1), "optimizer": torch.optim.SGD}
    given = {"hyper_parameters": hyperparameters, "hparams_type": dict, "hparams_name": "kwargs"}
    checkpoint, left_out = without_objects(given)
    assert checkpoint == {"hyper_parameters": {"lr": 0.1}, "hparams_name": "kwargs"}
    assert read(checkpoint) == checkpoint
    assert left_out == ["net", "optimizer"]
    assert given["hyper_parameters"] is hyperparameters
    assert len(hyperparameters) == 3


def test_hyperparameters_in_a_container_of_another_library_are_named_too() -> None:
    given = {"hyper_parameters": OmegaConf.create({"lr": 0.1, "width": 4}), "epoch": 1}
    assert without_objects(given) == ({"epoch": 1}, ["lr", "width"])


def test_a_hyperparameter_may_be_called_as_it_pleases() -> None:
    given = {"hyper_parameters": {1: torch.nn.Linear(1, 1), "lr": 0.1}}
    assert without_objects(given) == ({"hyper_parameters": {"lr": 0.1}}, ["1"])


def test_a_container_may_hold_itself() -> None:
    values: list[object] = [1.0]
    values.append(values)
    assert without_objects({"values": values})[0]["values"] is values
