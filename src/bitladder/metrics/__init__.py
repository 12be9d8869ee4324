"""Metrics of number formats, for use with or without Lightning."""

from bitladder.metrics.sqnr import SQNR

__all__ = ["SQNR"]
