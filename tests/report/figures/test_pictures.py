"""Pictures of the samples on which the rungs differ."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bitladder.cli.rungs import LARGEST_SIDE, write_differing
from bitladder.errors import UserError
from bitladder.report.figures import pictures
from bitladder.runs import RunDirectory, RunRecord
from bitladder.runs.samples import read_samples

Make = Callable[..., RunRecord]


def answers(*classes: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(classes)]


def split(images: torch.Tensor) -> Any:
    batches = [(images[:3], torch.zeros(3)), (images[3:], torch.zeros(len(images) - 3))]
    return SimpleNamespace(test_dataloader=lambda: batches)


def test_what_differs_is_kept_and_nothing_else(tmp_path: Path) -> None:
    images = torch.arange(4 * 4.0).reshape(4, 1, 2, 2) * 10
    directory = RunDirectory(tmp_path)
    write_differing(directory, answers(0, 1, 2, 1), answers(0, 2, 2, 0), split(images))
    samples = read_samples(directory)
    assert samples is not None
    assert samples.index.tolist() == [1, 3]
    assert samples.images.tolist() == [[[[0, 85], [170, 255]]]] * 2


def test_no_file_where_the_rungs_agree(tmp_path: Path) -> None:
    write_differing(RunDirectory(tmp_path), answers(0, 1), answers(0, 1), None)  # pyright: ignore
    assert read_samples(RunDirectory(tmp_path)) is None


def test_an_image_of_one_shade_is_black(tmp_path: Path) -> None:
    images = torch.full((4, 3, 2, 2), 7.0)
    write_differing(RunDirectory(tmp_path), answers(0, 0, 0, 0), answers(1, 0, 0, 0), split(images))
    samples = read_samples(RunDirectory(tmp_path))
    assert samples is not None
    assert not samples.images.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_run_shows_them_with_their_classes(run: Make, channels: int) -> None:
    record = run()  # of its four samples the rungs differ on the last
    images = np.zeros((1, channels, 2, 2), dtype=np.uint8)
    np.savez(record.directory.samples, allow_pickle=False, index=np.array([3]), images=images)
    section = pictures.section(record)
    assert section is not None
    (figure,) = section.figures
    image, captions = figure.to_plotly_json()["data"]
    assert image["source"].startswith("data:image/png;base64,")
    assert list(captions["text"]) == ["1 | 1 | 2"]


def test_images_stand_beside_each_other_enlarged_pixel_by_pixel() -> None:
    side = pictures.TILE
    images = np.arange(7 * 4, dtype=np.uint8).reshape(7, 1, 2, 2)
    whole, corners = pictures.mosaic(images)
    assert corners[1][0] == corners[0][0]
    assert corners[pictures.COLUMNS] == (side + pictures.CAPTION, corners[0][1])
    for image, (top, left) in zip(images, corners, strict=True):
        tile = whole[top : top + side, left : left + side]
        assert (tile[..., 3] == 255).all()
        for channel in range(3):
            assert np.array_equal(tile[:: side - 1, :: side - 1, channel], image[0])
    assert not whole[side : side + pictures.CAPTION].any()  # transparent


def test_colours_stay_what_they_are_and_large_images_are_thinned() -> None:
    images = np.zeros((1, 3, 2 * pictures.TILE, pictures.TILE), dtype=np.uint8)
    images[0, 2] = 200
    whole, ((top, left),) = pictures.mosaic(images)
    assert whole[top, left].tolist() == [0, 0, 200, 255]
    assert (whole[..., 3] > 0).sum() == pictures.TILE * pictures.TILE // 2


def test_as_many_pictures_as_are_shown_are_a_small_part_of_a_page() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (pictures.MOST, 3, 96, 96), dtype=np.uint8)
    figure = pictures.pictures(noise, [(0, 1, 2)] * len(noise))
    assert len(str(figure.to_json())) < 1.5e6  # noise, which no PNG makes smaller


def test_large_images_are_kept_smaller_in_their_proportions(tmp_path: Path) -> None:
    images = torch.rand(4, 3, 2 * LARGEST_SIDE, LARGEST_SIDE)
    write_differing(RunDirectory(tmp_path), answers(0, 0, 0, 0), answers(1, 0, 0, 0), split(images))
    samples = read_samples(RunDirectory(tmp_path))
    assert samples is not None
    assert samples.images.shape == (1, 3, LARGEST_SIDE, LARGEST_SIDE // 2)


@pytest.mark.parametrize(
    ("index", "images"),
    [
        (np.array([900]), np.zeros((1, 1, 2, 2), dtype=np.uint8)),
        (np.array([1]), np.zeros((1, 5, 2, 2), dtype=np.uint8)),
        (np.array([], dtype=int), np.zeros((0, 1, 2, 2), dtype=np.uint8)),
    ],
)
def test_what_cannot_be_shown_is_left_out(run: Make, index: Any, images: Any) -> None:
    record = run()
    np.savez(record.directory.samples, allow_pickle=False, index=index, images=images)
    assert pictures.section(record) is None


@pytest.mark.parametrize(
    ("index", "images"),
    [
        (np.array([1]), np.zeros((1, 2, 2), dtype=np.uint8)),
        (np.array([1]), np.zeros((1, 1, 2, 2), dtype=np.float32)),
        (np.array([1, 2]), np.zeros((1, 1, 2, 2), dtype=np.uint8)),
        (np.array([0.5]), np.zeros((1, 1, 2, 2), dtype=np.uint8)),
    ],
)
def test_what_no_run_writes_is_refused(tmp_path: Path, index: Any, images: Any) -> None:
    directory = RunDirectory(tmp_path)
    np.savez(directory.samples, allow_pickle=False, index=index, images=images)
    with pytest.raises(UserError, match=r"samples\.npz"):
        read_samples(directory)
    directory.samples.write_bytes(b"PK no archive")
    with pytest.raises(UserError, match=r"samples\.npz"):
        read_samples(directory)
