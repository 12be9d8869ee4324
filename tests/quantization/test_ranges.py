from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import Call, Recipe, calibrate, convert, prepare, quantized_layers
from bitladder.quantization.ranges import require_ranges
from bitladder.quantization.recipe import Method


class TwoWays(nn.Module):
    """One of its branches runs only where it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.usual = nn.Linear(4, 2)
        self.rare = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor, *, rare: bool = False) -> Tensor:
        x = self.stem(x)
        return self.rare(x) if rare else self.usual(x)


def prepared(method: Method, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    model = TwoWays().eval()
    prepare(model, Recipe(method=method), **arguments)
    return model


@pytest.mark.parametrize("method", ["dynamic", "ptq", "qat"])
def test_every_layer_of_a_branch_that_calibration_did_not_take_is_named(method: Method) -> None:
    with pytest.raises(RunError) as error:
        calibrate(prepared(method), [torch.randn(6, 4)])
    message = str(error.value)
    assert message.startswith("the observers of rare.0.weight, rare.2.weight never saw data: ")
    assert "quantization.skip=[rare.0,rare.2]" in message


def test_what_the_message_proposes_gets_past_it() -> None:
    model = prepared("ptq", skip=["rare.0", "rare.2"])
    calibrate(model, [torch.randn(6, 4)])
    assert convert(model)(torch.randn(3, 4)).shape == (3, 2)
    whole = prepared("ptq")
    calibrate(whole, [torch.randn(6, 4), Call((torch.randn(6, 4),), {"rare": True})])
    assert convert(whole)(torch.randn(3, 4), rare=True).shape == (3, 2)


def test_batches_without_samples_and_of_one_say_what_they_can() -> None:
    model = prepared("ptq", skip=["rare.*"])
    batches = [torch.randn(0, 4), torch.ones(1, 4), torch.full((3, 4), 5.0), torch.randn(0, 4)]
    calibrate(model, batches)
    observer = quantized_layers(model)["stem"].input_quantize.get_submodule("observer")
    assert observer.get_buffer("minimum") == 1.0
    assert observer.get_buffer("maximum") == 5.0
    assert convert(model)(torch.randn(0, 4)).shape == (0, 2)


def test_only_empty_batches_are_no_data() -> None:
    with pytest.raises(RunError, match=r"the observers of the input of stem, .* never saw data"):
        calibrate(prepared("ptq", skip=["rare.*"]), [torch.randn(0, 4)])


def test_the_model_itself_may_be_the_layer_without_a_range() -> None:
    model = nn.Linear(4, 2)
    prepare(model, Recipe(method="ptq"))
    with pytest.raises(RunError, match=r"the observer of the model\.weight never saw data"):
        require_ranges(model)
