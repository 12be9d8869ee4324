import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitladder.data import FashionMnist
from bitladder.data.fashion_mnist_files import DEBIAN_FOLDER
from bitladder.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def root(elsewhere: Path, write_fashion_mnist: Write) -> Path:
    return write_fashion_mnist(elsewhere / "own")


def rows(x: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in x}


def test_validation_comes_from_the_training_files_and_the_test_set_is_its_own(root: Path) -> None:
    splits = FashionMnist(root, batch_size=4).splits
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [30, 10, 20]
    assert splits.val.labels.bincount().tolist() == [1] * 10
    packed = gzip.decompress((root / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert splits.test.pixels.numpy().tobytes() == packed[16:]
    parts = [rows(part.pixels) for part in (splits.train, splits.val, splits.test)]
    assert len(parts[0] | parts[1] | parts[2]) == 60


def test_the_test_set_is_the_same_for_every_seed(root: Path) -> None:
    first, second = (FashionMnist(root, batch_size=4, seed=seed) for seed in (1, 2))
    assert torch.equal(first.splits.test.pixels, second.splits.test.pixels)
    assert not torch.equal(first.splits.val.pixels, second.splits.val.pixels)


def test_plain_files_are_the_same_data(
    root: Path, elsewhere: Path, write_fashion_mnist: Write
) -> None:
    plain = write_fashion_mnist(elsewhere / "plain", plain=True)
    expected = FashionMnist(root, batch_size=4).fingerprint()
    assert FashionMnist(str(plain), batch_size=4).fingerprint() == expected


def test_nothing_is_fetched_unless_asked_for(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="not on this machine"):
        FashionMnist(batch_size=4).prepare_data()
    FashionMnist(batch_size=4, download=True).prepare_data()
    assert len(FashionMnist(batch_size=4).splits.test) == 20


def test_augmentation_mirrors(root: Path) -> None:
    torch.manual_seed(0)
    data = FashionMnist(root, batch_size=16)
    x, _ = next(iter(data.train_dataloader()))
    y = data.augment_batch(x)
    assert not torch.equal(y, x)
    assert rows(y) <= rows(x) | rows(x.flip(-1))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            "t10k-labels-idx1-ubyte",
            "train-labels-idx1-ubyte",
            "train-labels.*: 20 labels for 40 im",
        ),
        ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-images.*: not an IDX file"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    root: Path, source: str, target: str, message: str
) -> None:
    (root / f"{target}.gz").write_bytes((root / f"{source}.gz").read_bytes())
    with pytest.raises(UserError, match=message):
        FashionMnist(root, batch_size=4).setup("fit")


@pytest.mark.parametrize(
    ("name", "position", "message"),
    [
        ("train-labels-idx1-ubyte", 8, "train-labels-idx1-ubyte: a label 255, expected 0 to 9"),
        ("train-images-idx3-ubyte", 11, "train-images-idx3-ubyte: .*expected .* bytes, found"),
    ],
)
def test_wrong_content_is_refused(
    elsewhere: Path, write_fashion_mnist: Write, name: str, position: int, message: str
) -> None:
    root = write_fashion_mnist(elsewhere / "plain", plain=True)
    content = bytearray((root / name).read_bytes())
    content[position] = 255
    (root / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        FashionMnist(root, batch_size=4).setup("fit")


def test_too_few_training_images_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FashionMnist, "VAL_SIZE", 40)
    with pytest.raises(UserError, match="40 images, too few to keep 40 back"):
        FashionMnist(root, batch_size=4).setup("fit")


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_published_data() -> None:
    data = FashionMnist(root=DEBIAN_FOLDER)
    splits = data.splits
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [55000, 5000, 10000]
    assert splits.val.labels.bincount().tolist() == [500] * 10
    assert splits.test.labels.bincount().tolist() == [1000] * 10
    x = data.normalization(splits.train.pixels)
    assert abs(x.mean()) < 2e-3
    assert abs(x.std() - 1) < 2e-3
