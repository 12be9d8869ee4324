"""A multi-layer perceptron."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from bitladder.models.arguments import check_dropout, check_image, check_sizes


class MLP(nn.Module):
    """Linear layers with ReLU between them, over the flattened image.

    Args:
        input_shape: Channels, height and width of an image.
        num_classes: Number of logits.
        hidden: Width of each hidden layer; none gives a linear classifier.
        dropout: Probability with which a hidden activation is dropped in training.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        hidden: Sequence[int] = (256, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_image(input_shape, num_classes)
        check_sizes(hidden=hidden)
        check_dropout(dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        features = math.prod(input_shape)
        for width in hidden:
            layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout)]
            features = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, num_classes]`` of images ``[batch, channels, height, width]``."""
        return self.head(self.layers(x))
