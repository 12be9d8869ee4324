import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.data.augment import random_flip, random_shift


def test_a_flip_mirrors_about_half_of_the_images_whole() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 2, 3, 4)
    y = random_flip(x)
    flipped = (y == x.flip(-1)).all(-1).all(-1).all(-1)
    kept = (y == x).all(-1).all(-1).all(-1)
    assert torch.equal(flipped, ~kept)
    assert 150 < flipped.sum() < 250


@given(pixels=st.integers(0, 2), seed=st.integers(0, 100))
def test_a_shift_moves_whole_images_and_fills_the_border(pixels: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(6, 2, 5, 4)
    y = random_shift(x, pixels, fill=-9.0)
    steps = range(-pixels, pixels + 1)
    for image, shifted in zip(x, y, strict=True):
        choices = [moved(image, down, right) for down in steps for right in steps]
        assert any(torch.equal(shifted, choice) for choice in choices)


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    result = torch.full_like(image, -9.0)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = image[:, row - down, column - right]
    return result


def test_shifts_go_in_all_directions() -> None:
    torch.manual_seed(0)
    x = torch.zeros(500, 1, 3, 3)
    x[:, 0, 1, 1] = 1.0
    places = random_shift(x, 1, fill=0.0).flatten(1).argmax(1)
    assert len(places.unique()) == 9


def test_the_global_generator_decides() -> None:
    x = torch.randn(32, 1, 4, 4)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(random_shift(random_flip(x), 1, fill=0.0))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
