"""Do two classifiers fail on the same samples, or does it only look so? Counts, without torch."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorSets:
    """How many samples two classifiers, a and b, get wrong: each of them, and both.

    How much two sets of errors overlap says little by itself: two models that are wrong on nearly
    everything share most of their errors however they come by them, and a set of 2 in one of 20
    cannot overlap by more than a tenth. So the Jaccard index J stands between what independent
    errors would give (:attr:`expected`, E) and the most that these two rates allow
    (:attr:`highest`, M), and :attr:`excess` says where: ``(J - E) / (M - E)``.

    Attributes:
        samples: How many there are.
        wrong_a: How many a gets wrong.
        wrong_b: How many b gets wrong.
        wrong_both: How many both get wrong, whether or not they answer the same.
    """

    samples: int
    wrong_a: int
    wrong_b: int
    wrong_both: int

    @property
    def rate_a(self) -> float:
        """The share p of samples that a gets wrong; NaN without samples."""
        return _ratio(self.wrong_a, self.samples)

    @property
    def rate_b(self) -> float:
        """The share q of samples that b gets wrong; NaN without samples."""
        return _ratio(self.wrong_b, self.samples)

    @property
    def jaccard(self) -> float:
        """``|A and B| / |A or B|`` in [0, 1]; NaN if neither ever errs: there is no set at all."""
        return _ratio(self.wrong_both, self.wrong_a + self.wrong_b - self.wrong_both)

    @property
    def expected(self) -> float:
        """``pq / (p + q - pq)``: of errors that know nothing of each other; NaN likewise.

        The ratio of the expected sizes of intersection and union at the observed rates; the
        expectation of the ratio itself differs from it by a term that falls with `samples`.
        """
        # As counts, which are exact: pq and p + q - pq, both times the samples squared.
        product = self.wrong_a * self.wrong_b
        return _ratio(product, (self.wrong_a + self.wrong_b) * self.samples - product)

    @property
    def highest(self) -> float:
        """``min(p, q) / max(p, q)``: where the smaller set lies in the larger; NaN likewise."""
        return _ratio(min(self.wrong_a, self.wrong_b), max(self.wrong_a, self.wrong_b))

    @property
    def excess(self) -> float:
        """``(J - E) / (M - E)``: 0 as by chance, 1 as much as the rates allow, below 0 avoiding.

        NaN where the rates leave no room between E and M: one of the two errs never, or always.
        """
        room = self.highest - self.expected
        if 0 in (self.wrong_a, self.wrong_b) or self.samples in (self.wrong_a, self.wrong_b):
            return math.nan
        return (self.jaccard - self.expected) / room

    @property
    def deviations(self) -> float:
        """How far :attr:`wrong_both` lies above chance, in its standard deviations under chance.

        Of sets drawn at random the common size is hypergeometric. NaN where :attr:`excess` is.
        """
        n, a, b = self.samples, self.wrong_a, self.wrong_b
        if 0 in (a, b) or n in (a, b):
            return math.nan
        variance = a * b * (n - a) * (n - b) / (n * n * (n - 1))
        return (self.wrong_both - a * b / n) / math.sqrt(variance)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
