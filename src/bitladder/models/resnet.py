"""A small residual network for images of 8x8 to 32x32."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bitladder.models.arguments import check_image, check_sizes


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut.

    He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), figure 5, left.

    Args:
        channels: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution. The shortcut is a 1x1 convolution if the shape
            changes, otherwise the input itself.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, width, height / stride, width / stride]`` of ``[batch, channels, ...]``."""
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.relu2(y + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, stages of basic blocks, the mean over the image, a linear classifier.

    Weights and activations are in ``channels_last``, the layout of the x86 int8 convolutions.

    Args:
        input_shape: Channels, height and width of an image.
        num_classes: Number of logits.
        widths: Channels of each stage; every stage but the first halves height and width.
        blocks: Number of blocks of each stage.
        stem_stride: Stride of the stem.

    Raises:
        ValueError: If an argument is out of range, ``widths`` and ``blocks`` differ in length, or
            the strides shrink the image below one pixel.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int] = (64, 64, 96),
        blocks: Sequence[int] = (1, 1, 1),
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        channels, height, width = check_image(input_shape, num_classes)
        check_sizes(widths=widths, blocks=blocks, stem_stride=stem_stride)
        if not widths or len(widths) != len(blocks):
            raise ValueError(
                "widths and blocks need one number for each stage, at least one stage: got"
                f" widths={tuple(widths)}, blocks={tuple(blocks)}"
            )
        shrink = stem_stride * 2 ** (len(widths) - 1)
        if min(height, width) < shrink:
            raise ValueError(
                f"an image of {height}x{width} is too small: stem_stride={stem_stride} and"
                f" {len(widths)} stages shrink it {shrink} times"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        self.stages = nn.Sequential()
        channels = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (depth - 1)
            inputs = [channels] + [width] * (depth - 1)
            self.stages.append(
                nn.Sequential(
                    *(BasicBlock(c, width, s) for c, s in zip(inputs, strides, strict=True))
                )
            )
            channels = width
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                weight = module.weight.data
                module.weight.data = weight.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, num_classes]`` of images ``[batch, channels, height, width]``."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.stages(self.stem(x))
        return self.head(x.mean((2, 3)))
