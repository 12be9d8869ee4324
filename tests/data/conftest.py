import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitladder.data import FashionMnist, fashion_mnist_files

Write = Callable[..., Path]


def idx(x: Tensor) -> bytes:
    return struct.pack(f">HBB{x.dim()}I", 0, 8, x.dim(), *x.shape) + x.numpy().tobytes()


@pytest.fixture
def write_fashion_mnist() -> Write:
    """Writes the four files in small: 40 training and 20 test images."""

    def write(folder: Path, plain: bool = False) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(1)
        for prefix, size in (("train", 40), ("t10k", 20)):
            pixels = torch.randint(256, (size, 28, 28), generator=generator).to(torch.uint8)
            labels = (torch.arange(size) % 10).to(torch.uint8)
            for name, x in (("images-idx3-ubyte", pixels), ("labels-idx1-ubyte", labels)):
                path = folder / f"{prefix}-{name}{'' if plain else '.gz'}"
                path.write_bytes(idx(x) if plain else gzip.compress(idx(x), mtime=0))
        return folder

    return write


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_fashion_mnist: Write) -> Path:
    """A machine of its own: a home, a place for Debian's package, a server with small files."""
    server = write_fashion_mnist(tmp_path / "server")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in server.iterdir()}
    published = {name: sums[name] for name in fashion_mnist_files.SHA256}
    monkeypatch.setattr(fashion_mnist_files, "SHA256", published)
    monkeypatch.setattr(fashion_mnist_files, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist_files, "DOWNLOAD_URL", f"{server.as_uri()}/")
    monkeypatch.setattr(FashionMnist, "VAL_SIZE", 10)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path
