"""Number formats: what they are, apart from who computes with them."""

from bitladder.formats.integer import INT8, UINT8, IntegerFormat

__all__ = ["INT8", "UINT8", "IntegerFormat"]
