"""Random changes to whole batches of images, drawn from torch's global CPU generator."""

import torch
from torch import Tensor
from torch.nn import functional as F


def random_flip(x: Tensor) -> Tensor:
    """Mirror each image left to right with probability one half.

    Args:
        x: Images, ``[batch, channels, height, width]``.
    """
    flipped = (torch.rand(len(x)) < 0.5).to(x.device)
    return torch.where(flipped[:, None, None, None], x.flip(-1), x)


def random_shift(x: Tensor, pixels: int, fill: float) -> Tensor:
    """Move each image by up to some pixels along both axes.

    Args:
        x: Images, ``[batch, channels, height, width]``.
        pixels: The largest shift.
        fill: The value of what comes in at the border.
    """
    batch, channels, height, width = x.shape
    offsets = torch.randint(0, 2 * pixels + 1, (2, batch, 1)).to(x.device)
    rows = offsets[0] + torch.arange(height, device=x.device)
    columns = offsets[1] + torch.arange(width, device=x.device)
    padded = F.pad(x, [pixels] * 4, value=fill)
    image = torch.arange(batch, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
