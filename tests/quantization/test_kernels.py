from typing import Any

import pytest
import torch
from torch import nn

from bitladder.errors import RunError
from bitladder.quantization.kernels import Int8Kernels

GRAPH = {"stem_0_weight_scale", "_0_weight_scale", "block_head_weight_scale", "qconv_prepack"}


@pytest.mark.parametrize("layer", ["stem.0", "0", "block.head"])
def test_a_layer_whose_scale_a_kernel_takes_is_found(layer: str) -> None:
    assert not Int8Kernels(GRAPH).missing([layer])


@pytest.mark.parametrize("layer", ["stem", "stem.1", "1", "head", "k.head", "block"])
def test_a_layer_is_not_mistaken_for_one_whose_name_ends_alike(layer: str) -> None:
    assert Int8Kernels(GRAPH).missing([layer]) == [layer]


def test_the_model_itself_may_be_the_layer() -> None:
    assert not Int8Kernels({"weight_scale"}).missing([""])
    assert Int8Kernels(GRAPH).missing([""]) == [""]


def test_layers_that_came_out_in_float_are_named() -> None:
    with pytest.raises(RunError, match=r"no int8 kernel for stem\.1, head: the artifact would run"):
        Int8Kernels(GRAPH).require(["stem.0", "stem.1", "head"])


def test_only_int8_kernels_count() -> None:
    def convolve(x: Any, weight_scale: Any) -> Any:
        return torch.conv2d(x, weight_scale)

    kernels = Int8Kernels()
    kernels.collect(torch.fx.symbolic_trace(convolve).graph)
    assert kernels.missing([""]) == [""]


def test_weights_whose_codes_were_unpacked_are_named() -> None:
    kernels = Int8Kernels(codes={"table_weight_codes", "rnn_weight_ih_l0_codes", "_0_weight_codes"})
    kernels.require_codes({"table": ["weight"], "0": ["weight"], "rnn": ["weight_ih_l0"]})
    with pytest.raises(RunError, match=r"no int8 codes of rnn, head: the artifact would hold"):
        kernels.require_codes(
            {"table": ["weight"], "rnn": ["weight_ih_l0", "weight_hh_l0"], "head": ["weight"]}
        )


def test_a_float_model_has_no_int8_kernels(float_package: Any) -> None:
    layers = ["features.0", "head"]
    assert float_package.kernels.missing(layers) == layers
    with pytest.raises(RunError, match=r"no int8 kernel for features\.0, head"):
        float_package.kernels.require(layers)


def test_a_model_whose_pattern_one_layer_breaks_names_it(broken_kernels: Int8Kernels) -> None:
    assert broken_kernels.missing(["0", "2"]) == ["2"]


@pytest.mark.slow
def test_layers_of_any_name_are_found(make_int8_kernels: Any) -> None:
    model = nn.ModuleDict(
        {"UpperCase": nn.Linear(8, 8), "with-dash": nn.Linear(8, 8), "3": nn.Linear(8, 8)}
    )
    model.register_module("_private", nn.Linear(8, 8))
    names = list(model._modules)

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for name in names:
                x = torch.relu(self.layers[name](x))
            return x

    kernels, layers = make_int8_kernels(Chain(), torch.randn(4, 8))
    assert len(layers) == 4
    assert not kernels.missing(layers)


@pytest.mark.slow
def test_a_linear_whose_input_is_transposed_gets_a_kernel(make_int8_kernels: Any) -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.transpose(1, 2))

    kernels, layers = make_int8_kernels(Transposed(), torch.randn(4, 8, 6))
    assert layers == ["head"]
    assert not kernels.missing(layers)
