"""Which images train, validate and test: fixed by the seed, stratified, without overlap."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bitladder.data.images import Images
from bitladder.data.sampler import seeded_generator


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, without overlap."""

    train: Images
    val: Images
    test: Images


def split(images: Images, val_size: int, test_size: int, seed: int) -> Splits:
    """Split one set of images in three.

    Args:
        images: All images.
        val_size: How many validate.
        test_size: How many test; the rest trains.
        seed: Decides which.
    """
    rest, test = stratified_split(images.labels, test_size, seed)
    train, val = stratified_split(images.labels[rest], val_size, seed)
    return Splits(images.pick(rest[train]), images.pick(rest[val]), images.pick(test))


def stratified_split(labels: Tensor, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Hold some samples out, each class in proportion to within one sample.

    Args:
        labels: Integer labels, ``[samples]``.
        held_out: How many samples to hold out, at most all.
        seed: Decides which.

    Returns:
        The indices that stay and those held out, int64, both ascending and without overlap.
    """
    samples = len(labels)
    assert 0 <= held_out <= samples
    shuffled = torch.randperm(samples, generator=seeded_generator("split", seed))
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    held = torch.zeros(samples, dtype=torch.bool)
    if held_out:
        # Evenly spaced picks give every run of equal labels its share.
        picks = (2 * torch.arange(held_out) + 1) * samples // (2 * held_out)
        held[by_class[picks]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()
