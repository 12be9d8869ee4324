import time

import pytest
import torch

from bitladder.data import Synthetic
from bitladder.errors import UserError


def test_classes_have_the_same_size() -> None:
    splits = Synthetic(num_samples=100, num_classes=5).splits
    labels = torch.cat([splits.train.labels, splits.val.labels, splits.test.labels])
    assert labels.bincount().tolist() == [20] * 5


def test_the_nearest_class_mean_tells_the_classes_apart() -> None:
    data = Synthetic(num_samples=200, input_shape=(3, 8, 8), num_classes=10)
    train, test = data.splits.train, data.splits.test
    means = torch.stack([train.pixels[train.labels == c].float().mean(0) for c in range(10)])
    distances = (test.pixels.float()[:, None] - means).flatten(2).norm(dim=2)
    assert torch.equal(distances.argmin(1), test.labels)


def test_is_ready_in_no_time() -> None:
    start = time.perf_counter()
    Synthetic(num_samples=1000).fingerprint()
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 19}, "data.num_samples=19: write a number of at least 20"),
        ({"num_classes": 1}, "data.num_classes=1: write a number of at least 2"),
        ({"input_shape": (8, 8)}, r"data.input_shape=\(8, 8\): write \[channels, height, width\]"),
        ({"input_shape": (1, 0, 8)}, r"data.input_shape=\(1, 0, 8\)"),
        ({"input_shape": (1, 10**40, 8)}, "are too many: write at most 1073741824 pixels"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Synthetic(**arguments)
