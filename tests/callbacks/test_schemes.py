"""Trainings that end in grids other than the default."""

from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bitladder import Quantization
from bitladder.quantization import Activations, Recipe, Weights, calibrate, convert, prepare
from bitladder.quantization.recipe import Method
from bitladder.quantization.reference import ReferenceLayer

from .conftest import MakeTrainer, Researcher


class Circles(Researcher):
    """Learns which of four rings a point of the plane lies in: linears that four bits can hold."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
        self.net = nn.Sequential(*layers)


def rings(seed: int, count: int = 1024) -> DataLoader[Any]:
    torch.manual_seed(seed)
    points = torch.rand(count, 2) * 2 - 1
    labels = (points.norm(dim=1) * 4).long().clamp(max=3)
    return DataLoader(TensorDataset(points, labels), batch_size=64)


def accuracy(model: Any, data: DataLoader[Any]) -> float:
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).float().mean().item() for x, y in data]
    return sum(right) / len(right)


def trained(make_trainer: MakeTrainer, callback: Quantization) -> tuple[Circles, float]:
    """The module after a fit, and the accuracy of what it runs then."""
    L.seed_everything(1, verbose=False)
    module = Circles()
    trainer = make_trainer(callback, epochs=25)
    trainer.fit(module, rings(1), rings(3))
    return module, accuracy(callback.deployment.run, rings(2)) if callback.deployment else 0.0


@pytest.mark.slow
def test_few_bits_that_were_trained_are_better_than_the_same_bits_rounded_afterwards(
    make_trainer: MakeTrainer,
) -> None:
    weights = Weights(bits=3)
    callback = Quantization("qat", target="net", weights=weights)
    _, learned = trained(make_trainer, callback)
    assert callback.deployment is not None
    assert {layer["kernel"] for layer in callback.deployment.layers} == {"none"}
    L.seed_everything(1, verbose=False)
    floating = Circles()
    optimizer = floating.configure_optimizers()
    for _ in range(25):
        for x, y in rings(1):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(floating.net(x), y).backward()
            optimizer.step()
    prepare(floating.net, Recipe(method="ptq", weights=weights))
    calibrate(floating.net, [x for x, _ in rings(1)])
    rounded = accuracy(convert(floating.net), rings(2))
    assert learned > rounded + 0.02, (learned, rounded)


@pytest.mark.parametrize(
    ("method", "weights", "activations", "kernels"),
    [
        pytest.param("ptq", {"per": "tensor"}, {}, "int8", marks=pytest.mark.slow),
        pytest.param("dynamic", {}, {"per": "token"}, "none", marks=pytest.mark.slow),
        pytest.param("ptq", {}, {"per": "none"}, "weight-only", marks=pytest.mark.slow),
        ("qat", {"bits": 4, "per": "group", "group_size": 16}, {"per": "token"}, "none"),
    ],
)
def test_a_training_ends_in_the_grids_that_were_chosen(
    make_trainer: MakeTrainer,
    method: Method,
    weights: dict[str, Any],
    activations: dict[str, Any],
    kernels: str,
) -> None:
    callback = Quantization(
        method, target="net", weights=Weights(**weights), activations=Activations(**activations)
    )
    module, learned = trained(make_trainer, callback)
    assert callback.deployment is not None
    assert learned > 0.9
    records = [layer for layer in callback.deployment.layers if layer["quantized"]]
    assert len(records) == (2 if weights.get("per") == "group" else 3)
    assert {layer["kernel"] for layer in records} == {kernels}
    bits = callback.recipe.weights.bits
    model: torch.nn.Module = module.net
    if method != "qat":  # it was a copy that the callback calibrated
        assert callback.float_model is not None
        model = callback.float_model
        calibrate(model, [x for x, _ in rings(1)])
    stored = [x for x in convert(model).modules() if isinstance(x, ReferenceLayer)]
    assert len(stored) == len(records)
    assert all(2 < len(layer.weight_codes.unique()) <= 2**bits for layer in stored)
