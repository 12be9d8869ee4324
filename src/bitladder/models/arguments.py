"""Checks of arguments that all models share."""

from collections.abc import Sequence


def check_sizes(**sizes: int | Sequence[int]) -> None:
    """Refuse sizes below one.

    Raises:
        ValueError: Names the first argument that holds such a size.
    """
    for name, size in sizes.items():
        if any(n < 1 for n in ([size] if isinstance(size, int) else size)):
            raise ValueError(f"{name} must be at least 1, not {size}")


def check_image(input_shape: Sequence[int], num_classes: int) -> tuple[int, int, int]:
    """The channels, height and width of an image, checked with the number of classes.

    Raises:
        ValueError: If there are not three sizes, one is below 1, or there are less than 2 classes.
    """
    if len(input_shape) != 3:
        raise ValueError(f"input_shape must be (channels, height, width), not {tuple(input_shape)}")
    check_sizes(input_shape=input_shape)
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, not {num_classes}")
    channels, height, width = input_shape
    return channels, height, width


def check_dropout(dropout: float) -> None:
    """Refuse what is no probability, or would drop everything.

    Raises:
        ValueError: If ``dropout`` is outside [0, 1).
    """
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, not {dropout}")
