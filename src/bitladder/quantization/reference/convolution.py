"""int8 convolutions, all of them as convolutions of images: that is what there are kernels for."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bitladder.quantization.layers import QuantConvolution, QuantizedLayer
from bitladder.quantization.qdq import quantize_dequantize
from bitladder.quantization.reference.base import ReferenceLayer

SECOND_CHANNEL = [0, 0, 0, 0, 0, 1]
"""What gives an image, or the weight of a convolution of images, one more channel, of zeros.

The strides of a one-channel image fit both memory layouts. Inductor and the int8 kernel then
disagree about the layout of the *output*, and whatever is added to it is added in the wrong
order. Two channels leave no doubt, and int8 kernels compute four at a time anyway.
"""

FEW_CHANNELS = 16
"""Fewer than a vector of codes has.

oneDNN's int8 convolution with a kernel of one pixel and a stride gathers the pixels that it needs
first. On AVX2 its threads write over each other's where there are so few channels, and answers
change from call to call (uxlfoundation/oneDNN#6035 is the like for gradients). Such a layer is
given these pixels alone.
"""


class ReferenceImages(ReferenceLayer):
    """What ends as one convolution of images, whatever it began as."""

    weight_sum: Tensor
    """Of each output channel's weights, fp32: what a shift of the input by 1 adds to the output."""

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__(layer)
        self.register_buffer("weight_sum", self.weight.sum((1, 2, 3)) if self.dynamic else None)

    def convolve(self, image: Tensor, input: Tensor, **options: Any) -> Tensor:
        """The convolution on rounded operands.

        There is an int8 kernel for one grid that is known when it is compiled. A range that comes
        at run time is brought there: the input in steps of its own grid, counted from the middle,
        takes the grid of step 1, and the output is brought back.

        Args:
            image: ``[N, in, height, width]``, fp32, with or without ``N``. Where the range comes
                at run time it is padded already: zero is not the middle of the grid.
            input: The layer's input, whose range counts.
            options: What ``F.conv2d`` takes besides; a stride as two numbers.
        """
        down, right = options.get("stride", (1, 1))
        if max(down, right) > 1 and not self._is_padded(options) and self._is_one_pixel(image):
            image, options = image[..., ::down, ::right], options | {"stride": (1, 1)}
        if not self.dynamic:
            return F.conv2d(self.rounded(image), self.weight, self.bias, **options)
        grid = self.input_scheme
        middle = (grid.format.minimum + grid.format.maximum + 1) // 2
        scale, zero_point = grid.qparams(*torch.aminmax(input.flatten(), dim=0))
        shift = zero_point.float() - middle
        steps = torch.round(image * (1.0 / scale)) + shift
        steps = quantize_dequantize(steps, 1.0, middle, grid)
        output = F.conv2d(steps, self.weight, **options)
        output = (output - (shift * self.weight_sum)[:, None, None]) * scale
        return output if self.bias is None else output + self.bias[:, None, None]

    def _is_one_pixel(self, image: Tensor) -> bool:
        """Whether the kernel is one pixel of few channels."""
        return self.weight.shape[2:] == (1, 1) and image.shape[-3] < FEW_CHANNELS

    @staticmethod
    def _is_padded(options: Mapping[str, Any]) -> bool:
        padding = options.get("padding", 0)
        return padding not in (0, "valid") and any(padding)


class ReferenceConvolution(ReferenceImages):
    """A convolution over time or images.

    Over time it is one of images of height one: Inductor's int8 convolution has the wrong idea of
    how long a one-dimensional output is. Padding with anything but zeros is done before it.
    """

    in_channels: int
    kernel_size: tuple[int, ...]

    def __init__(self, layer: QuantConvolution) -> None:
        super().__init__(layer)
        self.border: list[int] = []
        self.border_mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        stride, padding, dilation = layer.stride, layer.padding, layer.dilation
        if self.dynamic or self.border_mode != "constant":
            self.border = list(layer._reversed_padding_repeated_twice)
            padding = (0,) * len(layer.kernel_size)
        if self.over_time:
            stride, dilation = (1, *stride), (1, *dilation)
            padding = padding if isinstance(padding, str) else (0, *padding)
        self.options: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": layer.groups,
        }

    @property
    def over_time(self) -> bool:
        """Whether it has one dimension, not two."""
        return len(self.kernel_size) == 1

    def arrange(self, weight: Tensor) -> Tensor:
        """``[out, in / groups, *kernel]`` to ``[out, in / groups, height, width]``."""
        weight = weight.unsqueeze(-2) if self.over_time else weight
        return F.pad(weight, SECOND_CHANNEL) if self.in_channels == 1 else weight

    def forward(self, input: Tensor) -> Tensor:
        """``[N, in, *size]`` to ``[N, out, *size]``, with or without ``N``, fp32."""
        if any(self.border):
            input = F.pad(input, self.border, mode=self.border_mode)
        image = input.unsqueeze(-2) if self.over_time else input
        if self.in_channels == 1:
            image = F.pad(image, SECOND_CHANNEL)
        output = self.convolve(image, input, **self.options)
        return output.squeeze(-2) if self.over_time else output


class ReferenceConv3d(ReferenceImages):
    """A convolution of volumes, as one of images: there is no int8 kernel for volumes.

    The image that gives one slice of the output has as channels those of all the input's slices
    under the kernel, so the products are the same and none is added.
    """

    in_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def __init__(self, layer: QuantConvolution) -> None:
        super().__init__(layer)
        self.border = list(layer._reversed_padding_repeated_twice)
        self.border_mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        self.options: dict[str, Any] = {
            "stride": layer.stride[1:],
            "dilation": layer.dilation[1:],
            "groups": layer.groups,
        }

    @property
    def one_channel(self) -> bool:
        """Whether the images have one channel."""
        return self.in_channels * self.kernel_size[0] == 1

    def arrange(self, weight: Tensor) -> Tensor:
        """``[out, in / groups, depth, ...]`` to ``[out, in / groups * depth, ...]``."""
        weight = weight.flatten(1, 2)
        return F.pad(weight, SECOND_CHANNEL) if self.one_channel else weight

    def forward(self, input: Tensor) -> Tensor:
        """``[N, in, depth, height, width]`` to ``[N, out, ...]``, with or without ``N``, fp32."""
        batch = input if input.dim() == 5 else input.unsqueeze(0)
        batch = F.pad(batch, self.border, mode=self.border_mode)
        taps, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        slices = (batch.shape[2] - dilation * (taps - 1) - 1) // stride + 1
        under = [
            batch[:, :, start : start + (slices - 1) * stride + 1 : stride]
            for start in range(0, taps * dilation, dilation)
        ]
        images = torch.stack(under, dim=2).permute(0, 3, 1, 2, 4, 5).flatten(2, 3).flatten(0, 1)
        if self.one_channel:
            images = F.pad(images, SECOND_CHANNEL)
        output = self.convolve(images, input, **self.options)
        output = output.unflatten(0, (-1, slices)).transpose(1, 2)
        return output if input.dim() == 5 else output.squeeze(0)
