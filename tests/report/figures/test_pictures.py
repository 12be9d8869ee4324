"""Pictures of the samples on which the rungs differ."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bitladder.cli.rungs import write_differing
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
    assert figure.to_plotly_json()["layout"]["annotations"][0]["text"] == "1: float 1, int8 2"
    assert np.shape(figure.to_plotly_json()["data"][0]["z"]) == (2, 2, 3)


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
