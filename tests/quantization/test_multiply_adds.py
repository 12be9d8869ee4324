from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitladder.quantization import Call, Recipe, prepare
from bitladder.quantization.multiply_adds import multiply_adds


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, groups=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.qkv = nn.Linear(8, 24)
        self.idle = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.conv(x)).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).chunk(3, -1)
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])


def test_counted_by_hand() -> None:
    model = Mixed().eval()
    prepare(model, Recipe(method="ptq"))
    counted = multiply_adds(model, Call((torch.randn(2, 3, 4, 5),), {}))
    pixels, batch = 20, 2
    expected = {
        "conv": batch * pixels * 8 * 3 * 9,
        "depthwise": batch * pixels * 8 * 9,
        "qkv": batch * pixels * 8 * 24,
        "idle": 0,
    }
    attention = 2 * batch * pixels * pixels * 8
    assert counted.by_layer == expected
    assert counted.total == sum(expected.values()) + attention
    assert counted.share() == sum(expected.values()) / counted.total
    assert counted.share({"conv": True, "qkv": False}) == expected["conv"] / counted.total


def test_a_shared_layer_is_counted_every_time_it_runs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.fc(x))

    model = Twice().eval()
    prepare(model, Recipe(method="dynamic"))
    counted = multiply_adds(model, Call((torch.randn(3, 4),), {}))
    assert counted.by_layer == {"fc": 2 * 3 * 16}
    assert counted.share() == 1.0


def test_a_pass_that_multiplies_nothing_has_no_share() -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x

    model = Nothing().eval()
    prepare(model, Recipe(method="ptq"))
    assert multiply_adds(model, Call((torch.randn(3, 4),), {})).share() == 0.0


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_a_recurrent_layer_counts_both_products_of_every_step(kind: Any, gates: int) -> None:
    model = kind(6, 5, 2, bidirectional=True).eval()
    prepare(model, Recipe(method="dynamic"))
    counted = multiply_adds(model, Call((torch.randn(7, 3, 6),), {}))
    products = sum(gates * 5 * (inputs + 5) for inputs in (6, 6, 10, 10))
    assert counted.total == counted.by_layer[""] == 7 * 3 * products
