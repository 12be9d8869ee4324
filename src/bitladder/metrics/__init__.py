"""Metrics of number formats, for use with or without Lightning."""

from bitladder.metrics.error_overlap import ErrorSetOverlap
from bitladder.metrics.format_shares import Part, Ruler, Tally, format_shares, part_of
from bitladder.metrics.sqnr import SQNR

__all__ = ["SQNR", "ErrorSetOverlap", "Part", "Ruler", "Tally", "format_shares", "part_of"]
