"""Every format against ml_dtypes and NumPy, pattern by pattern and in both directions."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from bitladder.formats import BF16, E4M3, E5M2, FP16, FP32, FloatFormat, decode, encode, round_to

# tf32 has no such type: test_tf32.py has an oracle of its own.
ORACLES: dict[FloatFormat, Any] = {
    FP32: np.float32,
    FP16: np.float16,
    BF16: ml_dtypes.bfloat16,
    E4M3: ml_dtypes.float8_e4m3fn,
    E5M2: ml_dtypes.float8_e5m2,
}
UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32}

each = pytest.mark.parametrize("format", ORACLES, ids=lambda format: format.name)
narrow = pytest.mark.parametrize(
    "format", [format for format in ORACLES if format.bits <= 16], ids=lambda format: format.name
)


def oracle_values(bits: np.ndarray, format: FloatFormat) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return bits.astype(UNSIGNED[format.bits]).view(ORACLES[format]).astype(np.float32)


def oracle_bits(x: np.ndarray, format: FloatFormat) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return x.astype(ORACLES[format]).view(UNSIGNED[format.bits])


def assert_same_values(ours: torch.Tensor, theirs: np.ndarray) -> None:
    """Equal bit for bit, so also in the sign of zeros; any NaN equals any other."""
    assert ours.dtype == torch.float32
    mine = ours.numpy()
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs))
    number = ~np.isnan(theirs)
    np.testing.assert_array_equal(mine[number].view(np.uint32), theirs[number].view(np.uint32))


@pytest.fixture(scope="module")
def random_bits() -> np.ndarray:
    """A million float32 patterns, of all kinds."""
    return np.random.default_rng(1).integers(0, 1 << 32, 1_000_000, dtype=np.uint32)


@pytest.fixture(scope="module")
def special_bits() -> np.ndarray:
    """Three million float32 patterns: the ties of every narrower format, and what is around them.

    These are the patterns with any sign, exponent and first ten bits of fraction, followed by
    thirteen bits that are all zero, or a half, or next to either. Zeros, subnormal numbers,
    infinities, NaN and the limits of every format are among them.
    """
    high = np.arange(1 << 19, dtype=np.uint32) << 13
    low = np.array([0, 1, 0x0FFF, 0x1000, 0x1001, 0x1FFF], dtype=np.uint32)
    return (high[:, None] | low).reshape(-1)


@narrow
def test_every_pattern_is_decoded(format: FloatFormat) -> None:
    bits = np.arange(1 << format.bits)
    assert_same_values(decode(torch.from_numpy(bits), format), oracle_values(bits, format))


@narrow
def test_every_number_is_encoded_as_itself(format: FloatFormat) -> None:
    bits = np.arange(1 << format.bits)
    values = oracle_values(bits, format)
    number = ~np.isnan(values)
    ours = encode(torch.from_numpy(values[number]), format).numpy()
    np.testing.assert_array_equal(ours, bits[number])


def test_float32_patterns_are_decoded(random_bits: np.ndarray, special_bits: np.ndarray) -> None:
    for bits in (random_bits, special_bits):
        ours = decode(torch.from_numpy(bits.astype(np.int64)), FP32)
        assert_same_values(ours, bits.view(np.float32))


@each
def test_float32_numbers_are_rounded(
    format: FloatFormat, random_bits: np.ndarray, special_bits: np.ndarray
) -> None:
    for bits in (random_bits, special_bits):
        values = bits.view(np.float32)
        theirs = oracle_bits(values, format)
        ours = encode(torch.from_numpy(values), format)
        number = ~np.isnan(values)
        np.testing.assert_array_equal(ours.numpy()[number], theirs[number])
        rounded = round_to(torch.from_numpy(values), format)
        assert_same_values(rounded, oracle_values(theirs, format))


@each
def test_a_nan_stays_one_with_its_sign(format: FloatFormat) -> None:
    nan = np.array([np.nan, -np.nan], dtype=np.float32)
    assert encode(torch.from_numpy(nan), format).tolist() == oracle_bits(nan, format).tolist()
