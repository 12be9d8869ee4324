"""Models of PyTorch's own parts."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitladder.models import MLP, ResNet, VisionTransformer

Batch = Callable[[int], dict[str, Tensor]]
VOCABULARY = 200


class Named(nn.Module):
    """Gives a model whose input has another name the name `x`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """What the model gives."""
        return self.model(x)


def normed(conv: nn.Module, channels: int, act: nn.Module) -> nn.Sequential:
    """A convolution, its BatchNorm and an activation."""
    norm = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
    return nn.Sequential(conv, norm[type(conv)](channels), act)


class Inverted(nn.Module):
    """An inverted residual block with squeeze and excitation, as in MobileNetV3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.expand = normed(nn.Conv2d(channels, wide, 1, bias=False), wide, nn.Hardswish())
        depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.depthwise = normed(depthwise, wide, nn.Hardswish())
        self.squeeze, self.excite = nn.Conv2d(wide, channels, 1), nn.Conv2d(channels, wide, 1)
        self.project = normed(nn.Conv2d(wide, channels, 1, bias=False), channels, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Shape `[batch, channels, height, width]`, as the input's."""
        y = self.depthwise(self.expand(x))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1))))
        return x + self.project(y * F.hardsigmoid(gate))


def mobile() -> nn.Module:
    """Depthwise convolutions, ReLU6, hard-swish, squeeze and excitation."""
    stem = normed(nn.Conv2d(3, 16, 3, 2, 1, bias=False), 16, nn.ReLU6())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return Named(nn.Sequential(stem, Inverted(16), Inverted(16), *head))


class Dense(nn.Module):
    """Convolutions that each see the outputs of all before them, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = normed(nn.Conv2d(3, 16, 3, padding=1), 16, nn.ReLU())
        self.layers = nn.ModuleList(
            normed(nn.Conv2d(16 + 8 * i, 8, 3, padding=1, bias=False), 8, nn.SiLU())
            for i in range(3)
        )
        self.head = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Shape `[batch, 10]`."""
        x = F.max_pool2d(self.stem(x), 2)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(F.avg_pool2d(x, 4).mean((2, 3)))


class UNet(nn.Module):
    """Down, up again by transposed convolutions, and skips that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.first = normed(nn.Conv2d(3, 16, 3, padding=1, bias=False), 16, nn.ReLU())
        self.down = normed(nn.Conv2d(16, 32, 3, padding=1, bias=False), 32, nn.ReLU())
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.last = normed(nn.Conv2d(32, 16, 3, padding=1, bias=False), 16, nn.ReLU())
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape `[batch, 2, height, width]`."""
        high = self.first(x)
        low = self.down(F.max_pool2d(high, 2))
        return self.head(self.last(torch.cat([high, self.up(low)], 1)))


def waves() -> nn.Module:
    """One-dimensional convolutions, dilated and grouped, with GELU."""
    return Named(
        nn.Sequential(
            normed(nn.Conv1d(2, 16, 5, stride=2, padding=2), 16, nn.GELU()),
            normed(nn.Conv1d(16, 32, 3, padding=2, dilation=2, groups=2), 32, nn.GELU()),
            nn.MaxPool1d(2),
            nn.Conv1d(32, 32, 3, padding=1),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(32, 4),
        )
    )


def film() -> nn.Module:
    """Three-dimensional convolutions."""
    return Named(
        nn.Sequential(
            normed(nn.Conv3d(3, 8, 3, padding=1, bias=False), 8, nn.ReLU()),
            normed(nn.Conv3d(8, 16, 3, stride=2, padding=1, bias=False), 16, nn.ReLU()),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        )
    )


class Encoder(nn.Module):
    """PyTorch's own transformer encoder over tokens, with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 64, padding_idx=0)
        layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 2)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """The hidden states and the logits."""
        hidden = self.encoder(self.embed(ids), src_key_padding_mask=ids == 0)
        return {"hidden": hidden, "logits": self.head(hidden[:, 0])}


class TiedDecoder(nn.Module):
    """A causal language model whose output layer is its embedding, by scaled dot products."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 64)
        self.norm1, self.norm2 = nn.LayerNorm(64), nn.LayerNorm(64)
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)
        self.head = nn.Linear(64, VOCABULARY, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Logits, shape `[batch, tokens, VOCABULARY]`."""
        x = self.embed(ids)
        q, k, v = (
            y.unflatten(-1, (4, 16)).transpose(1, 2) for y in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x)


class Tagger(nn.Module):
    """A recurrent network over tokens."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 48)
        self.recurrent = kind(48, 64, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(128, 5)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits, shape `[batch, tokens, 5]`."""
        return self.head(self.recurrent(self.embed(ids))[0])


class Bag(nn.Module):
    """A bag of words beside dense features: two inputs, of integers and of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(VOCABULARY, 64)
        self.features = nn.Linear(12, 64)
        self.body = nn.Sequential(nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, ids: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and what they are made of."""
        both = torch.cat([self.bag(ids), self.features(features)], 1)
        return self.body(both), both


def words(batch: int) -> dict[str, Tensor]:
    """Token ids of one length: `torch.export` fixes that of a recurrent layer."""
    return {"ids": torch.randint(VOCABULARY, (batch, 12))}


def images(size: int) -> Batch:
    """Images of three channels."""
    return lambda batch: {"x": torch.randn(batch, 3, size, size)}


def tokens(batch: int) -> dict[str, Tensor]:
    """Token ids; the length varies with the batch."""
    ids = torch.randint(1, VOCABULARY, (batch, 12 + batch))
    ids[0, -2:] = 0
    return {"ids": ids}


MODELS: dict[str, tuple[Callable[[], nn.Module], Batch]] = {
    "MLP": (lambda: Named(MLP((3, 8, 8), 10)), images(8)),
    "small ResNet": (lambda: Named(ResNet((3, 16, 16), 10)), images(16)),
    "small ViT": (lambda: Named(VisionTransformer((3, 16, 16), 10, patch_size=4)), images(16)),
    "mobile": (mobile, images(32)),
    "dense": (Dense, images(16)),
    "U-Net": (UNet, images(16)),
    "waves": (waves, lambda batch: {"x": torch.randn(batch, 2, 64)}),
    "film": (film, lambda batch: {"x": torch.randn(batch, 3, 6, 12, 12)}),
    "TransformerEncoder": (Encoder, tokens),
    "tied decoder": (TiedDecoder, tokens),
    "LSTM": (lambda: Tagger(nn.LSTM), words),
    "GRU": (lambda: Tagger(nn.GRU), words),
    "bag of words": (
        Bag,
        lambda batch: {
            "ids": torch.randint(VOCABULARY, (batch, 9)),
            "features": torch.randn(batch, 12),
        },
    ),
}
