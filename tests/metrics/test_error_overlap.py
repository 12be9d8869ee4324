"""Overlap of two models' errors, against sets counted by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bitladder.metrics import ErrorSetOverlap


def overlap(a: list[int], b: list[int], labels: list[int]) -> dict[str, float]:
    metric = ErrorSetOverlap()
    metric.update(torch.tensor(a), torch.tensor(b), torch.tensor(labels))
    return {name: value.item() for name, value in metric.compute().items()}


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=40))
def test_it_is_what_sets_say(samples: list[tuple[int, int, int]]) -> None:
    a, b, labels = (list(column) for column in zip(*samples, strict=True))
    wrong_a = {i for i, label in enumerate(labels) if a[i] != label}
    wrong_b = {i for i, label in enumerate(labels) if b[i] != label}
    found = overlap(a, b, labels)
    assert found["p"] == len(wrong_a) / len(labels)
    assert found["q"] == len(wrong_b) / len(labels)
    if wrong_a | wrong_b:
        assert found["jaccard"] == len(wrong_a & wrong_b) / len(wrong_a | wrong_b)
        assert found["jaccard"] <= found["highest"] + 1e-12
        p, q = found["p"], found["q"]
        assert found["expected"] == pytest.approx(p * q / (p + q - p * q))
    else:
        assert math.isnan(found["jaccard"])


def test_the_same_errors_are_all_excess_and_disjoint_ones_less_than_none() -> None:
    labels = [0] * 10
    assert overlap([1, 1, *[0] * 8], [1, 1, *[0] * 8], labels)["excess"] == 1.0
    # One's errors within the other's: as much as their rates allow.
    assert overlap([1, 0, *[0] * 8], [1, 1, *[0] * 8], labels)["excess"] == 1.0
    assert overlap([1, 0, *[0] * 8], [0, 1, *[0] * 8], labels)["excess"] < 0.0


def test_independent_errors_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    wrong = [torch.rand(200_000, generator=generator) < rate for rate in (0.1, 0.2)]
    metric = ErrorSetOverlap()
    metric.update(wrong[0].long(), wrong[1].long(), torch.zeros(200_000, dtype=torch.long))
    found = metric.compute()
    assert found["jaccard"] == pytest.approx(0.02 / 0.28, abs=0.003)
    assert found["excess"].item() == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    ("a", "b", "unknown"),
    [
        ([0, 0], [0, 0], {"jaccard", "expected", "highest", "excess"}),
        ([0, 0], [0, 1], {"excess"}),
        ([1, 1], [1, 1], {"excess"}),
        ([1, 1], [1, 0], {"excess"}),
    ],
)
def test_what_cannot_be_said_is_nan(a: list[int], b: list[int], unknown: set[str]) -> None:
    found = overlap(a, b, [0, 0])
    assert {name for name, value in found.items() if math.isnan(value)} == unknown


def test_a_model_that_is_always_wrong_leaves_no_room_for_an_excess() -> None:
    for samples in range(2, 30):
        for wrong in range(1, samples):
            some = [1] * wrong + [0] * (samples - wrong)
            assert math.isnan(overlap(some, [1] * samples, [0] * samples)["excess"])


def test_batches_and_ranks_add_up() -> None:
    torch.manual_seed(0)
    logits: list[Tensor] = [torch.randn(30, 4) for _ in range(2)]
    labels = torch.randint(4, (30,))
    whole, first, second = ErrorSetOverlap(), ErrorSetOverlap(), ErrorSetOverlap()
    whole.update(logits[0], logits[1], labels)
    first.update(logits[0][:10], logits[1][:10], labels[:10])
    second.update(logits[0][10:], logits[1][10:], labels[10:])
    first.merge_state(second)
    assert first.compute() == whole.compute()


def test_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="predictions have shape"):
        ErrorSetOverlap().update(torch.zeros(3), torch.zeros(3), torch.zeros(4))
