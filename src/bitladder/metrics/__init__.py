"""Metrics of number formats, for use with or without Lightning."""

from bitladder.metrics.format_shares import Ruler, Tally, format_shares
from bitladder.metrics.sqnr import SQNR

__all__ = ["SQNR", "Ruler", "Tally", "format_shares"]
