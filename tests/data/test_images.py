import pytest
import torch
from torch.utils.data import DataLoader

from bitladder.data.images import ImageDataset, Images, Normalization, keep_batch

NORMALIZATION = Normalization(peak=10.0, mean=0.5, std=0.25)


def images() -> Images:
    return Images(torch.arange(20, dtype=torch.uint8).view(5, 1, 2, 2), torch.arange(5))


def test_pixels_are_scaled_and_normalized() -> None:
    pixels = torch.tensor([0, 5, 10], dtype=torch.uint8)
    assert NORMALIZATION(pixels).tolist() == [-2.0, 0.0, 2.0]
    assert NORMALIZATION.black == -2.0


def test_a_batch_is_its_samples_stacked() -> None:
    dataset = ImageDataset(images(), NORMALIZATION)
    x, y = dataset.__getitems__([3, 0])
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert torch.equal(x, torch.stack([dataset[3][0], dataset[0][0]]))
    assert y.tolist() == [3, 0]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_passes_batches_through(num_workers: int) -> None:
    dataset = ImageDataset(images(), NORMALIZATION)
    loader = DataLoader(dataset, batch_size=2, collate_fn=keep_batch, num_workers=num_workers)
    batches = list(loader)
    assert [len(x) for x, _ in batches] == [2, 2, 1]
    assert torch.cat([y for _, y in batches]).tolist() == [0, 1, 2, 3, 4]


def test_the_digest_sees_pixels_labels_and_shape() -> None:
    original = images()
    changed = original.pixels.clone()
    changed[0, 0, 0, 0] += 1
    others = [
        Images(changed, original.labels),
        Images(original.pixels, original.labels.flip(0)),
        Images(original.pixels.view(5, 2, 2, 1), original.labels),
    ]
    assert original.digest() == images().digest()
    assert original.digest() not in {other.digest() for other in others}
