import pytest
import torch
from torch import nn
from torch.export import Dim

from bitladder.models import MLP, ResNet, VisionTransformer

SHAPE = (1, 8, 8)
MODELS = {
    "mlp": lambda: MLP(SHAPE, 10, hidden=(16,), dropout=0.1),
    "resnet": lambda: ResNet(SHAPE, 10, widths=(8, 8, 16), stem_stride=1),
    "resnet_three_channels": lambda: ResNet((3, 8, 8), 10, widths=(8, 16), blocks=(1, 1)),
    "vit": lambda: VisionTransformer(SHAPE, 10, dim=16, depth=2, heads=2, dropout=0.1),
}


@pytest.mark.parametrize("name", MODELS)
def test_exports_with_a_free_batch_size(name: str) -> None:
    torch.manual_seed(0)
    net = MODELS[name]()
    channels = 3 if "three" in name else 1
    net(torch.randn(16, channels, 8, 8))  # BatchNorm's statistics are no longer 0 and 1
    net.eval()
    example = torch.randn(4, channels, 8, 8)
    program = torch.export.export(net, (example,), dynamic_shapes=({0: Dim.DYNAMIC},))
    exported = program.module()
    for batch in (1, 2, 7):
        x = torch.randn(batch, channels, 8, 8)
        torch.testing.assert_close(exported(x), net(x))


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    def build() -> nn.Module:
        torch.manual_seed(3)
        return MODELS[name]()

    first, second = build().state_dict(), build().state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
