"""int8 transposed convolutions, as convolutions: there is no int8 kernel for transposed ones."""

import torch.nn.functional as F
from torch import Tensor

from bitladder.quantization.reference.convolution import SECOND_CHANNEL, ReferenceImages


class ReferenceTransposed(ReferenceImages):
    """A transposed convolution over time or images, as one convolution of stride 1.

    With stride s every s-th tap of the kernel meets the same position of the output. So the
    positions p, p + s, ... are a convolution with these taps, and the s (or s * s) convolutions are
    one with as many times the output channels, which are interleaved afterwards (Shi et al., "Is
    the deconvolution layer the same as a convolutional layer?", 2016). No product with a stuffed
    zero is computed; a kernel that is no multiple of the stride is filled up with zeros.
    """

    in_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def over_time(self) -> bool:
        """Whether it has one dimension, not two; it is then one of images of height one."""
        return len(self.kernel_size) == 1

    @property
    def steps(self) -> tuple[int, ...]:
        """Stride in height and width."""
        return (1, *self.stride) if self.over_time else self.stride

    @property
    def margins(self) -> tuple[int, ...]:
        """What is cut off in front, in height and width."""
        return (0, *self.padding) if self.over_time else self.padding

    @property
    def reach(self) -> tuple[int, ...]:
        """Height and width of the kernel with its dilation."""
        reach = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return (1, *reach) if self.over_time else reach

    def arrange(self, weight: Tensor) -> Tensor:
        """``[out, in / groups, *kernel]`` to ``[out * steps, in / groups, *taps of a step]``."""
        spacing = (1, *self.dilation) if self.over_time else self.dilation
        weight = weight.unsqueeze(-2) if self.over_time else weight
        (height, width), (down, right) = self.reach, self.steps
        filled = weight.new_zeros(
            *weight.shape[:2], height + -height % down, width + -width % right
        )
        filled[:, :, : height : spacing[0], : width : spacing[1]] = weight
        split = filled.unflatten(3, (-1, right)).unflatten(2, (-1, down))
        weight = split.permute(0, 3, 5, 1, 2, 4).flip(4, 5).flatten(0, 2)
        return F.pad(weight, SECOND_CHANNEL) if self.in_channels == 1 else weight

    def spread(self, channels: Tensor) -> Tensor:
        """``[out, ...]`` to ``[out * steps, ...]``."""
        return channels.repeat_interleave(self.steps[0] * self.steps[1], dim=0)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``[N, in, *size]`` to ``[N, out, *size]``, with or without ``N``, fp32."""
        rank = len(self.kernel_size)
        batch = input if input.dim() == rank + 2 else input.unsqueeze(0)
        image = batch.unsqueeze(-2) if self.over_time else batch
        if self.in_channels == 1:
            image = F.pad(image, SECOND_CHANNEL)
        size = self._size(image, output_size)
        common, rest = self._padding(image, size)
        if any(rest):
            image = F.pad(image, rest)
        output = self.convolve(image, input, padding=common, groups=self.groups)
        output = output.unflatten(1, (-1, *self.steps)).permute(0, 1, 4, 2, 5, 3)
        output = output.flatten(4, 5).flatten(2, 3)
        for dim in (0, 1):
            start = self.margins[dim] % self.steps[dim]
            output = output.narrow(2 + dim, start, size[dim])
        output = output.squeeze(-2) if self.over_time else output
        return output if input.dim() == rank + 2 else output.squeeze(0)

    def _size(self, image: Tensor, output_size: list[int] | None) -> list[int]:
        """Height and width of the output."""
        if output_size is not None:
            size = list(output_size)[-len(self.kernel_size) :]
            return [1, *size] if self.over_time else size
        more = (0, *self.output_padding) if self.over_time else self.output_padding
        return [
            (image.shape[2 + dim] - 1) * self.steps[dim]
            - 2 * self.margins[dim]
            + self.reach[dim]
            + more[dim]
            for dim in (0, 1)
        ]

    def _padding(self, image: Tensor, size: list[int]) -> tuple[list[int], list[int]]:
        """What the convolution pads on both sides, and what is left for ``F.pad``."""
        common, rest = [], []
        for dim in (0, 1):
            step, margin = self.steps[dim], self.margins[dim]
            before = -(-self.reach[dim] // step) - 1 - margin // step
            after = -(-(size[dim] + margin) // step) - image.shape[2 + dim]
            both = 0 if self.dynamic else max(min(before, after), 0)
            common.append(both)
            rest = [before - both, after - both, *rest]  # F.pad takes the last dimension first
        return common, rest
