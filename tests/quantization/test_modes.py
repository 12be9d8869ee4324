import pytest
import torch
from torch import nn

from bitladder.quantization.modes import evaluating


def test_every_module_gets_its_own_mode_back_even_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout()).train()
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [m.training for m in (model, *model)] == [True, True, False, True]
    with pytest.raises(RuntimeError), evaluating(model):
        model(torch.ones(2, 3))
    assert [m.training for m in (model, *model)] == [True, True, False, True]
