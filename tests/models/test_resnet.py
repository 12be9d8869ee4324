import pytest
import torch
from torch import nn

from bitladder.models import ResNet


def test_the_fashion_mnist_net_has_at_most_300_000_parameters() -> None:
    net = ResNet((1, 28, 28), 10, widths=(64, 64, 96), blocks=(1, 1, 1), stem_stride=2)
    assert sum(p.numel() for p in net.parameters()) <= 300_000


@pytest.mark.parametrize("size", [8, 11, 28, 32])
def test_gives_logits_at_any_size(size: int) -> None:
    net = ResNet((3, size, size), 5, widths=(8, 16), blocks=(1, 2), stem_stride=2)
    assert net(torch.randn(2, 3, size, size)).shape == (2, 5)


def test_every_stage_but_the_first_halves_the_image() -> None:
    net = ResNet((1, 16, 16), 10, widths=(4, 6, 8), blocks=(2, 1, 2), stem_stride=2)
    x = net.stem(torch.randn(2, 1, 16, 16))
    shapes = [tuple(x.shape)]
    for stage in net.stages:
        x = stage(x)
        shapes.append(tuple(x.shape))
    assert shapes == [(2, 4, 8, 8), (2, 4, 8, 8), (2, 6, 4, 4), (2, 8, 2, 2)]


def test_convolutions_have_no_bias_and_each_its_batchnorm() -> None:
    modules = list(ResNet((1, 8, 8), 10, widths=(4, 8), blocks=(2, 2)).modules())
    convolutions = [m for m in modules if isinstance(m, nn.Conv2d)]
    norms = [m for m in modules if isinstance(m, nn.BatchNorm2d)]
    assert all(m.bias is None for m in convolutions)
    assert [m.out_channels for m in convolutions] == [m.num_features for m in norms]


def test_weights_and_activations_are_channels_last() -> None:
    net = ResNet((3, 8, 8), 10, widths=(8, 16), blocks=(1, 1)).eval()
    assert all(
        m.weight.is_contiguous(memory_format=torch.channels_last)
        for m in net.modules()
        if isinstance(m, nn.Conv2d)
    )
    layouts = []
    net.stages.register_forward_hook(
        lambda _, __, y: layouts.append(y.is_contiguous(memory_format=torch.channels_last))
    )
    net(torch.randn(2, 3, 8, 8))
    assert layouts == [True]


def test_a_block_that_adds_nothing_passes_its_input_on() -> None:
    net = ResNet((1, 8, 8), 10, widths=(8,), blocks=(1,)).eval()
    block = net.stages.get_submodule("0.0")
    nn.init.zeros_(block.get_submodule("norm2").get_parameter("weight"))
    x = torch.rand(2, 8, 8, 8)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (1, 3, 8)}, "3x8 is too small: stem_stride=1 and 3 stages shrink it 4"),
        ({"stem_stride": 4}, "8x8 is too small: stem_stride=4 and 3 stages shrink it 16 times"),
        ({"widths": (8, 8)}, r"one number for each stage.*widths=\(8, 8\), blocks=\(1, 1, 1\)"),
        ({"widths": (), "blocks": ()}, "at least one stage"),
        ({"blocks": (1, 0, 1)}, r"blocks must be at least 1, not \(1, 0, 1\)"),
        ({"stem_stride": 0}, "stem_stride must be at least 1, not 0"),
        ({"input_shape": (8, 8)}, r"\(channels, height, width\), not \(8, 8\)"),
        ({"num_classes": 1}, "num_classes must be at least 2, not 1"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        ResNet(**{"input_shape": (1, 8, 8), "num_classes": 10, **arguments})
    assert "\n" not in str(error.value)
