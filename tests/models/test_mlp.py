import pytest
import torch
from torch import nn

from bitladder.models import MLP


def test_gives_logits() -> None:
    assert MLP((3, 4, 5), 7)(torch.randn(2, 3, 4, 5)).shape == (2, 7)


def test_hidden_sets_the_widths() -> None:
    linears = [m for m in MLP((1, 2, 2), 3, hidden=(8, 6)).modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(4, 8), (8, 6), (6, 3)]


def test_no_hidden_layer_is_a_linear_classifier() -> None:
    net = MLP((1, 2, 2), 3, hidden=())
    x, y = torch.randn(2, 1, 1, 2, 2).unbind()
    torch.testing.assert_close(net(x + y) - net(y), net(x) - net(torch.zeros_like(x)))


def test_dropout_is_off_in_evaluation() -> None:
    net = MLP((1, 4, 4), 3, dropout=0.5)
    x = torch.randn(8, 1, 4, 4)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden must be at least 1"):
        MLP((1, 4, 4), 3, hidden=(8, 0))
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and below 1, not 1\.0"):
        MLP((1, 4, 4), 3, dropout=1.0)
