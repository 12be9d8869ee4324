"""A model straight to its artifact."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from bitladder.quantization import Call, Deployment, Recipe, calibrate, deploy, prepare
from bitladder.quantization.recipe import Method


@pytest.fixture
def deploy_model(tmp_path: Path) -> Callable[..., Deployment]:
    def run(model: nn.Module, call: Call, method: Method = "ptq") -> Deployment:
        plans = prepare(model.eval(), Recipe(method=method), example_args=call.args)
        calibrate(model, [call])
        return deploy(model, plans, [call], tmp_path / "model.pt2", min_sqnr_db=20.0)

    return run
