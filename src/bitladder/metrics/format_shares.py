"""What share of a tensor's values a floating-point format would lose, and how.

Rounding to the nearest number, ties to the even one, is monotonic: what becomes of a value in a
format (zero, subnormal, normal, too large) depends only on which of the format's limits its
magnitude exceeds. So counting values between the limits of all formats answers for all of them.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bitladder.formats import FLOAT_FORMATS, FloatFormat

ALL_FORMATS = tuple(FLOAT_FORMATS.values())
MOST_VALUES = 2**16
"""Of larger tensors about this many values are counted: a share is then right to about 0.002."""
AT_ONCE = 32
"""How many tensors a GPU counts at a time: what it needs for that stays below 100 MB."""


class Limits(NamedTuple):
    """The greatest magnitudes that a format rounds to zero, to at most a subnormal, to a number."""

    zero: float
    subnormal: float
    finite: float


@dataclass(frozen=True)
class Part:
    """What is kept of a tensor, to be counted later.

    Attributes:
        amax: The greatest magnitude of all values, finite or not, shape `[]`, on their device.
        magnitudes: Absolute values of at most `MOST_VALUES` of them, float32 or float64, one
            dimension, on the same device.
    """

    amax: Tensor
    magnitudes: Tensor


@dataclass(frozen=True)
class Tally:
    """How many of `count` values are at most as large as each mark of a ruler.

    Attributes:
        amax: The greatest finite magnitude: of all values, or, where some of them are not finite,
            of those that were counted.
        at_most: A number for each mark.
        count: How many values were counted.
    """

    amax: float
    at_most: tuple[int, ...]
    count: int

    def __add__(self, other: "Tally") -> "Tally":
        """Both together, as if one tensor had held the values of both."""
        at_most = tuple(x + y for x, y in zip(self.at_most, other.at_most, strict=True))
        return Tally(max(self.amax, other.amax), at_most, self.count + other.count)


@torch.no_grad()
def part_of(x: Tensor) -> Part:
    """Take from `x` what is to be counted: any floating dtype, any shape that is not empty.

    The values are evenly spread where there are too many. Nothing waits for the device.
    """
    values = x.detach().to_dense().flatten()
    if values.dtype.itemsize == 1:  # PyTorch computes nothing in fp8
        values = values.float()
    # One kernel on a GPU; on a CPU the slower of the two.
    amax = torch.linalg.vector_norm(values, math.inf) if values.is_cuda else values.abs().amax()
    some = values[:: _stride(len(values))]
    wide = torch.promote_types(some.dtype, torch.float32)
    return Part(amax, some.to(wide, copy=True).abs_())


class Ruler:
    """Counts values between the limits of formats.

    Args:
        formats: The formats that are asked about.
        scale: The values are this many times too large: :meth:`read` answers for what they are
            without it.
        stored: A format that is asked about for the values as they stand, with their scale.
    """

    def __init__(
        self,
        formats: Sequence[FloatFormat] = ALL_FORMATS,
        *,
        scale: float = 1.0,
        stored: FloatFormat | None = None,
    ) -> None:
        self.scale = scale
        self.limits = {f"{format.name}/": limits(format, scale) for format in formats}
        if stored is not None:
            self.limits = {"": limits(stored)} | self.limits
        ends = {0.0, sys.float_info.max}
        self.marks = sorted(ends.union(*self.limits.values()))
        self._shares = self._differences()
        double = torch.tensor(self.marks, dtype=torch.float64)
        single = double.float()
        above = single.double() > double
        single[above] = torch.nextafter(single, torch.zeros(()))[above]
        self._marks = {x.dtype: x for x in (double, single)}

    @torch.no_grad()
    def count(self, parts: Sequence[Part]) -> list[Tally]:
        """Count the values of several parts, in few transfers to the host.

        Returns:
            A tally for each part.
        """
        groups: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for index, part in enumerate(parts):
            key = (part.magnitudes.dtype, part.magnitudes.device)
            groups.setdefault(key, []).append(index)
        tallies: dict[int, Tally] = {}
        for (dtype, device), indices in groups.items():
            marks = self._marks[dtype].to(device)
            for start in range(0, len(indices), AT_ONCE):
                some = indices[start : start + AT_ONCE]
                magnitudes = [parts[index].magnitudes for index in some]
                amax = torch.stack([parts[index].amax for index in some])
                counts = (count_by_passes if device.type == "cpu" else count_by_bins)(
                    magnitudes, marks
                )
                rows = torch.cat([amax.double().unsqueeze(1), counts.double()], 1).tolist()
                for index, values, (greatest, *at_most) in zip(some, magnitudes, rows, strict=True):
                    if not math.isfinite(greatest):
                        greatest = values.nan_to_num(0.0, 0.0, 0.0).amax().item()
                    tallies[index] = Tally(greatest, tuple(map(int, at_most)), len(values))
        return [tallies[index] for index in range(len(parts))]

    def read(self, tally: Tally) -> dict[str, float]:
        """The numbers of a tally as shares.

        Returns:
            `amax`, the greatest finite magnitude without the scale; `zero` and `nonfinite`, the
            shares in [0, 1] of exact zeros and of infinities and NaN; and for each format the
            shares `<format>/underflow` (not zero, but rounded to zero), `<format>/subnormal`
            (rounded to a subnormal number) and `<format>/saturated` (finite, but rounded beyond
            the greatest number). Those of `stored` come first, without a name before them. What
            remains to 1 is rounded to a normal number.
        """
        at_most, count = tally.at_most, tally.count
        figures = {"amax": tally.amax / self.scale, "zero": at_most[0] / count}
        figures["nonfinite"] = 1.0 - at_most[-1] / count
        for name, above, below in self._shares:
            figures[name] = (at_most[above] - at_most[below]) / count
        return figures

    def _differences(self) -> list[tuple[str, int, int]]:
        """Each share of a format: its name, and the marks that its values lie between."""
        index = {mark: place for place, mark in enumerate(self.marks)}
        zero, finite = index[0.0], index[sys.float_info.max]
        shares = []
        for name, limit in self.limits.items():
            shares += [
                (f"{name}underflow", index[limit.zero], zero),
                (f"{name}subnormal", index[limit.subnormal], index[limit.zero]),
                (f"{name}saturated", finite, index[limit.finite]),
            ]
        return shares


def format_shares(x: Tensor, formats: Sequence[FloatFormat] = ALL_FORMATS) -> dict[str, float]:
    """What `formats` would make of the values of `x`; :meth:`Ruler.read` says under which names."""
    ruler = Ruler(formats)
    return ruler.read(*ruler.count([part_of(x)]))


def limits(format: FloatFormat, scale: float = 1.0) -> Limits:
    """The limits of `format` for values that are `scale` times too large."""
    half_step = format.smallest_subnormal / 2
    exponent = math.frexp(format.max)[1] - 1
    beyond = format.max + math.ldexp(format.epsilon, exponent) / 2
    # Halfway between two numbers wins the one with the even pattern. Zero and the smallest normal
    # number are even; the greatest number is odd where the pattern above it is infinity.
    finite = _below(beyond * scale) if format.max_pattern % 2 else beyond * scale
    return Limits(
        zero=half_step * scale,
        subnormal=_below((format.smallest_normal - half_step) * scale),
        finite=min(finite, sys.float_info.max),
    )


def count_by_bins(magnitudes: Sequence[Tensor], marks: Tensor) -> Tensor:
    """How many values of each tensor are at most each of the ascending `marks`, in few kernels.

    Returns:
        int64, shape `[tensors, marks]`.
    """
    rows, columns = len(magnitudes), len(marks) + 1
    values = torch.cat(list(magnitudes))
    sizes = torch.tensor([len(x) for x in magnitudes]).to(values.device)
    starts = torch.arange(rows, device=values.device) * columns
    starts = torch.repeat_interleave(starts, sizes, output_size=len(values))
    bins = torch.bucketize(values, marks) + starts
    table = torch.bincount(bins, minlength=rows * columns).view(rows, columns)
    return table.cumsum(1)[:, :-1]


def count_by_passes(magnitudes: Sequence[Tensor], marks: Tensor) -> Tensor:
    """The same with a pass over a tensor for each mark that lies among its magnitudes.

    On a CPU several times as fast as the search for every value's bin: most marks lie elsewhere.
    """
    return torch.tensor([_passes(x, marks) for x in magnitudes])


def _passes(magnitudes: Tensor, marks: Tensor) -> list[int]:
    count = len(magnitudes)
    zeros = count - int(torch.count_nonzero(magnitudes))
    largest = magnitudes.amax().item()  # NaN if there is one: then every mark is compared
    # In the values' own dtype comparison and sum are vectorized; up to 2**24 the sum is exact.
    flags = torch.empty_like(magnitudes)
    counts: list[int] = []
    for mark in reversed(marks.tolist()):
        if count > zeros and not mark >= largest:
            count = int(torch.le(magnitudes, mark, out=flags).sum())
        counts.append(count)
    return counts[::-1]


def _stride(count: int) -> int:
    """The step that leaves at most `MOST_VALUES`, and prefers no place along any dimension."""
    stride = -(-count // MOST_VALUES)
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride


def _below(value: float) -> float:
    return math.nextafter(value, 0.0)
