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
MOST_VALUES = 2**18
"""Of larger tensors about this many values are counted: a share is then right to about 0.1%."""
CHUNK = 2**17
"""How many values the CPU counts at a time: what stays in its cache."""


class Limits(NamedTuple):
    """The greatest magnitudes that a format rounds to zero, to at most a subnormal, to a number."""

    zero: float
    subnormal: float
    finite: float


@dataclass(frozen=True)
class Tally:
    """How many of `count` values are at most as large as each mark of a ruler.

    Attributes:
        amax: The greatest finite magnitude of all values, float64, shape `[]`, on their device.
        at_most: int64, shape `[marks]`, on the values' device.
        count: How many values were counted.
    """

    amax: Tensor
    at_most: Tensor
    count: int

    def __add__(self, other: "Tally") -> "Tally":
        """Both together, as if one tensor had held the values of both."""
        return Tally(
            torch.maximum(self.amax, other.amax),
            self.at_most + other.at_most,
            self.count + other.count,
        )


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
        double = torch.tensor(self.marks, dtype=torch.float64)
        single = double.float()
        above = single.double() > double
        single[above] = torch.nextafter(single, torch.zeros(()))[above]
        self._marks = {(x.dtype, x.device): x for x in (double, single)}

    @torch.no_grad()
    def measure(self, x: Tensor) -> Tally:
        """Count the values of `x`: any floating dtype, any shape that is not empty.

        The greatest magnitude is that of all values; of more than `MOST_VALUES` only some, evenly
        spread, are counted. Nothing waits for the device.
        """
        values = x.detach().to_dense().flatten()
        if values.dtype.itemsize == 1:  # PyTorch computes nothing in fp8
            values = values.float()
        amax = torch.linalg.vector_norm(values.nan_to_num(0.0, 0.0, 0.0), math.inf)
        values = values[:: _stride(len(values))]
        wide = values if values.dtype == torch.float64 else values.float()
        magnitudes = wide.abs()
        marks = self._marks_beside(magnitudes)
        if magnitudes.device.type == "cpu":
            at_most = sum(count_by_passes(chunk, marks) for chunk in magnitudes.split(CHUNK))
            assert isinstance(at_most, Tensor)
        else:
            at_most = count_by_table(magnitudes, marks)
        return Tally(amax.double(), at_most, len(magnitudes))

    def _marks_beside(self, x: Tensor) -> Tensor:
        if (x.dtype, x.device) not in self._marks:
            marks = self._marks[x.dtype, torch.device("cpu")]
            self._marks[x.dtype, x.device] = marks.to(x.device)
        return self._marks[x.dtype, x.device]

    def read(self, amax: float, at_most: Sequence[float], count: int) -> dict[str, float]:
        """The numbers of a tally, on the host, as shares.

        Returns:
            `amax`, the greatest finite magnitude without the scale; `zero` and `nonfinite`, the
            shares in [0, 1] of exact zeros and of infinities and NaN; and for each format the
            shares `<format>/underflow` (not zero, but rounded to zero), `<format>/subnormal`
            (rounded to a subnormal number) and `<format>/saturated` (finite, but rounded beyond
            the greatest number). Those of `stored` come first, without a name before them. What
            remains to 1 is rounded to a normal number.
        """
        share = {mark: seen / count for mark, seen in zip(self.marks, at_most, strict=True)}
        zero, finite = share[0.0], share[sys.float_info.max]
        figures = {"amax": amax / self.scale, "zero": zero, "nonfinite": 1.0 - finite}
        for name, limit in self.limits.items():
            figures[f"{name}underflow"] = share[limit.zero] - zero
            figures[f"{name}subnormal"] = share[limit.subnormal] - share[limit.zero]
            figures[f"{name}saturated"] = finite - share[limit.finite]
        return figures


def format_shares(x: Tensor, formats: Sequence[FloatFormat] = ALL_FORMATS) -> dict[str, float]:
    """What `formats` would make of the values of `x`; :meth:`Ruler.read` says under which names."""
    ruler = Ruler(formats)
    tally = ruler.measure(x)
    return ruler.read(tally.amax.item(), tally.at_most.tolist(), tally.count)


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


def count_by_table(magnitudes: Tensor, marks: Tensor) -> Tensor:
    """How many `magnitudes` are at most each of the ascending `marks`, by comparing all with all.

    Moves a byte for each comparison, but takes two kernels and no waiting.
    """
    return torch.le(magnitudes, marks.unsqueeze(1)).sum(1)


def count_by_passes(magnitudes: Tensor, marks: Tensor) -> Tensor:
    """The same of a chunk, with one pass for each mark that lies among its magnitudes.

    On a CPU several times as fast as the search for every value's bin: most marks lie elsewhere.
    """
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
    return torch.tensor(counts[::-1])


def _stride(count: int) -> int:
    """The step that leaves at most `MOST_VALUES`, and prefers no place along any dimension."""
    stride = -(-count // MOST_VALUES)
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride


def _below(value: float) -> float:
    return math.nextafter(value, 0.0)
