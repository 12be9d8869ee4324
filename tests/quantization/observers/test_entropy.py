import math

import pytest
import torch

from bitladder.quantization import ACTIVATION, EntropyObserver, Scheme


def test_an_outlier_is_clipped_and_the_other_end_stays() -> None:
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    x[50_000] = 60.0
    observer = EntropyObserver(ACTIVATION)
    for batch in x.split(25_000):
        observer(batch)
    minimum, maximum = observer.range()
    assert 60.0 / 8 <= maximum < 30.0
    assert minimum == x.min()


def test_values_spread_evenly_keep_the_widest_range() -> None:
    x = torch.linspace(0.0, 1.0, 100_000)
    observer = EntropyObserver(ACTIVATION)
    observer(x)
    assert observer.range() == (0.0, 1.0)


def test_no_less_is_kept_than_one_bin_a_code() -> None:
    x = torch.cat([torch.rand(10_000, generator=torch.Generator().manual_seed(0)), torch.ones(1)])
    x[-1] = 1e6
    observer = EntropyObserver(ACTIVATION)
    observer(x)
    assert observer.range()[1].item() == pytest.approx(1e6 / 8)
    few = EntropyObserver(ACTIVATION, bins=64)
    few(x)
    assert few.range()[1] == 1e6


def test_the_divergence_is_that_of_a_count_by_hand() -> None:
    """Four codes for the bins 0 to 7, the range [0, 5]: outliers 6 and 7 count as 5."""
    two_bits = Scheme(type(ACTIVATION.format)("uint2", 2, False), symmetric=False)
    observer = EntropyObserver(two_bits, bins=16)
    values = torch.arange(8.0)
    counts = torch.tensor([8, 4, 2, 2, 1, 1, 1, 1])
    low, high = torch.zeros(1), torch.full((1,), 5.0)
    p = [8, 4, 2, 2, 1, 3]  # of 20
    codes = [round(value / (5 / 3)) for value in range(6)]  # 0 1 1 2 2 3
    assert codes == [0, 1, 1, 2, 2, 3]
    q = [8, 3, 3, 1.5, 1.5, 1]  # of 18
    expected = sum(a / 20 * math.log((a / 20) / (b / 18)) for a, b in zip(p, q, strict=True))
    found = observer._divergence(low, high, values, counts)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_zeros_behind_a_relu_do_not_narrow_the_range() -> None:
    x = torch.rand(50_000, generator=torch.Generator().manual_seed(0))
    relu = torch.cat([x, torch.zeros(50_000)])
    observer = EntropyObserver(ACTIVATION)
    observer(relu)
    assert observer.range()[1] > 0.9
