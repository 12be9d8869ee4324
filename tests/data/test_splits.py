import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.data.images import Images
from bitladder.data.splits import split, stratified_split


@given(st.data())
def test_held_out_samples_are_stratified_and_disjoint(data: st.DataObject) -> None:
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=80)))
    held_out = data.draw(st.integers(0, len(labels)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    kept, held = stratified_split(labels, held_out, seed)
    assert len(held) == held_out
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(labels)))
    fair = labels.bincount(minlength=5) * held_out / len(labels)
    assert (labels[held].bincount(minlength=5) - fair).abs().max() < 1


def test_a_split_is_fixed_by_its_seed() -> None:
    labels = torch.arange(100) % 7
    first, again, other = (stratified_split(labels, 20, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_three_splits_hold_every_image_once() -> None:
    images = Images(torch.arange(60, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(60) % 3)
    splits = split(images, val_size=12, test_size=6, seed=1)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [42, 12, 6]
    parts = [part.pixels.flatten() for part in (splits.train, splits.val, splits.test)]
    assert sorted(torch.cat(parts).tolist()) == list(range(60))
