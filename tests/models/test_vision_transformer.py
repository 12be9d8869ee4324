import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bitladder.models import VisionTransformer
from bitladder.models.vision_transformer import Attention


def test_gives_logits() -> None:
    net = VisionTransformer((3, 8, 12), 5, patch_size=4, dim=12, depth=2, heads=3)
    assert net(torch.randn(2, 3, 8, 12)).shape == (2, 5)


def test_attention_is_that_of_torch_with_the_same_weights() -> None:
    ours = Attention(dim=12, heads=3, dropout=0.0)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    projections = [ours.query, ours.key, ours.value]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


def test_attention_and_mlp_are_six_linears_a_block() -> None:
    net = VisionTransformer((1, 8, 8), 10, dim=16, depth=3, heads=2)
    linears = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    assert len([name for name in linears if name.startswith("blocks.")]) == 3 * 6


def test_knows_where_a_patch_is() -> None:
    net = VisionTransformer((1, 4, 4), 10, patch_size=2, dim=16, depth=2, heads=2).eval()
    x = torch.randn(2, 1, 4, 4)
    assert not torch.allclose(net(x), net(x.roll(2, dims=-1)))
    nn.init.zeros_(net.positions)
    torch.testing.assert_close(net(x), net(x.roll(2, dims=-1)))


def test_dropout_is_off_in_evaluation() -> None:
    net = VisionTransformer((1, 4, 4), 10, dim=16, depth=1, heads=2, dropout=0.3)
    x = torch.randn(4, 1, 4, 4)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_learns_to_tell_two_images_apart() -> None:
    torch.manual_seed(0)
    net = VisionTransformer((1, 4, 4), 2, dim=16, depth=1, heads=2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    x, y = torch.randn(2, 1, 4, 4), torch.tensor([0, 1])
    loss = torch.tensor(torch.inf)
    for _ in range(30):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 3}, "patch_size=3 does not divide an image of 8x8"),
        ({"dim": 10, "heads": 4}, "heads=4 does not divide dim=10"),
        ({"depth": 0}, "depth must be at least 1, not 0"),
        ({"mlp_ratio": 0.0}, "mlp_ratio=0.0 leaves the MLP no width"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, not -0.1"),
        ({"input_shape": (1, 0, 8)}, r"input_shape must be at least 1, not \(1, 0, 8\)"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        VisionTransformer(**{"input_shape": (1, 8, 8), "num_classes": 10, **arguments})
    assert "\n" not in str(error.value)
