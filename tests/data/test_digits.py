import pytest
import torch

from bitladder.data import Digits


def test_sizes_of_the_splits() -> None:
    splits = Digits().splits
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [1257, 180, 360]


def test_images_are_those_of_scikit_learn_normalized() -> None:
    x, y = next(iter(Digits(batch_size=256).calibration_dataloader()))
    assert x.shape == (256, 1, 8, 8)
    assert (x.min(), x.max()) == (torch.tensor(-0.75), torch.tensor(1.75))
    assert abs(x.mean()) < 0.1
    assert abs(x.std() - 1) < 0.1
    assert y.unique().tolist() == list(range(10))


def test_every_class_has_its_share_in_every_split() -> None:
    splits = Digits(seed=3).splits
    for part, size in ((splits.val, 18), (splits.test, 36)):
        assert (part.labels.bincount() - size).abs().max() <= 2


def test_the_seed_fixes_the_split() -> None:
    assert Digits(seed=1).fingerprint() == Digits(seed=1).fingerprint()
    assert Digits(seed=1).fingerprint() != Digits(seed=2).fingerprint()


def test_a_shift_brings_in_black() -> None:
    torch.manual_seed(0)
    data = Digits()
    x = torch.full((64, 1, 8, 8), 1.75)
    black, white = data.augment_batch(x).unique().tolist()
    assert (black, white) == (pytest.approx(data.normalization.black), 1.75)
