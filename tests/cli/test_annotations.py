import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bitladder.cli.annotations import annotation, described, fits, shown
from bitladder.quantization import Weights

if TYPE_CHECKING:
    from fractions import Fraction


def _takes(known: "int | None", unknown: "Fraction") -> None:
    """One of the annotations cannot be resolved at run time."""


def _annotation(function: Callable[..., Any], name: str) -> Any:
    return annotation(function, inspect.signature(function).parameters[name])


def test_an_annotation_that_cannot_be_resolved_hides_no_other() -> None:
    assert _annotation(_takes, "known") == (int | None)
    assert _annotation(_takes, "unknown") is Any


def test_no_annotation_is_any() -> None:
    bare = inspect.Parameter("bare", inspect.Parameter.KEYWORD_ONLY)
    assert annotation(_takes, bare) is Any


def test_annotations_of_torch_optimizers_are_found() -> None:
    assert fits(0.1, _annotation(torch.optim.AdamW, "lr"))
    assert not fits("fast", _annotation(torch.optim.AdamW, "lr"))
    assert fits([0.9, 0.95], _annotation(torch.optim.AdamW, "betas"))
    assert not fits([0.9], _annotation(torch.optim.AdamW, "betas"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, float),
        (3, int | None),
        (None, int | None),
        ([1, 2], tuple[int, ...]),
        ([1, 2], Sequence[int]),
        ([1, 2], tuple[int, int]),
        ("runs", Path),
        ("max", Literal["min", "max"]),
        ({"days": 1}, str | timedelta | dict[str, int] | None),
        (0.5, float | Tensor),
        (float("inf"), float),
        ("anything", Any),
    ],
)
def test_a_value_of_the_right_type_fits(value: object, expected: object) -> None:
    assert fits(value, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", int),
        (3.0, int),
        (True, int),
        (1, bool),
        ("abc", int | None),
        (None, int),
        ([1, "x"], Sequence[int]),
        ([1, 2, 3], tuple[int, int]),
        (3, str),
        ("median", Literal["min", "max"]),
        ("relu", nn.Module),
        (3, Callable[[int], int]),
        ("fast", float | Tensor),
        ({"bits": 8}, Weights),
        ({"bits": 8}, Weights | None),
    ],
)
def test_a_value_of_another_type_does_not_fit(value: object, expected: object) -> None:
    assert not fits(value, expected)


@given(st.integers(-(2**53), 2**53) | st.floats(allow_nan=False))
def test_every_number_is_a_float(value: float) -> None:
    assert fits(value, float)


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (int | None, "int or null"),
        (float | Tensor, "float"),
        (Sequence[int], "a list of int"),
        (tuple[int, ...] | None, "a list of int or null"),
        (Literal["min", "max"], "min, max"),
        (bool, "true or false"),
        (nn.Module, "Module"),
        (Callable[[int], bool] | None, "Callable or null"),
    ],
)
def test_types_in_words(expected: object, words: str) -> None:
    assert described(expected) == words


def test_values_are_shown_as_they_are_written() -> None:
    assert [shown(value) for value in ("abc", None, True, [1, "x"])] == [
        "abc",
        "null",
        "true",
        '[1, "x"]',
    ]
