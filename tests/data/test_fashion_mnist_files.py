from collections.abc import Callable
from pathlib import Path

import pytest

from bitladder.data.fashion_mnist_files import SHA256, find_files
from bitladder.errors import UserError

CACHE = "home/.cache/bitladder/fashion-mnist"
Write = Callable[..., Path]


def folders(files: list[Path]) -> set[Path]:
    assert [path.name.removesuffix(".gz") for path in files] == [
        name.removesuffix(".gz") for name in SHA256
    ]
    return {path.parent for path in files}


def test_the_sources_have_an_order(elsewhere: Path, write_fashion_mnist: Write) -> None:
    cache = write_fashion_mnist(elsewhere / CACHE)
    assert folders(find_files(None, download=False)) == {cache}
    debian = write_fashion_mnist(elsewhere / "debian")
    assert folders(find_files(None, download=True)) == {debian}
    own = write_fashion_mnist(elsewhere / "own", plain=True)
    assert folders(find_files(str(own), download=True)) == {own}


def test_without_a_source_the_message_says_how_to_get_it(elsewhere: Path) -> None:
    with pytest.raises(UserError) as error:
        find_files(None, download=False)
    for way in ("apt install dataset-fashion-mnist", "data.root=", "data.download=true"):
        assert way in str(error.value)
    assert not (elsewhere / "home").exists()


@pytest.mark.parametrize("root", ["own", "debian"])
def test_a_source_that_misses_a_file_is_not_passed_over(
    elsewhere: Path, write_fashion_mnist: Write, root: str
) -> None:
    write_fashion_mnist(elsewhere / CACHE)
    write_fashion_mnist(elsewhere / root)
    (elsewhere / root / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=rf"{root}/t10k-labels-idx1-ubyte\.gz is missing"):
        find_files(elsewhere / root if root == "own" else None, download=True)


def test_a_root_that_does_not_exist_is_refused(elsewhere: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root: .*nowhere/train-images.* is missing"):
        find_files(elsewhere / "nowhere", download=True)


def test_a_download_is_kept_and_leaves_nothing_else(elsewhere: Path) -> None:
    assert folders(find_files(None, download=True)) == {elsewhere / CACHE}
    assert {path.name for path in (elsewhere / CACHE).iterdir()} == set(SHA256)
    (elsewhere / "server").rename(elsewhere / "gone")
    assert folders(find_files(None, download=False)) == {elsewhere / CACHE}


def test_a_wrong_download_is_thrown_away(elsewhere: Path) -> None:
    path = elsewhere / "server" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz: the download is incomplete"):
        find_files(None, download=True)
    assert [p.name for p in (elsewhere / CACHE).iterdir() if p.name.startswith("t10k-images")] == []


def test_a_download_that_cannot_be_says_the_address_and_other_ways(elsewhere: Path) -> None:
    (elsewhere / "server" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        UserError, match=r"train-labels-idx1-ubyte\.gz: the download failed"
    ) as error:
        find_files(None, download=True)
    assert "dataset-fashion-mnist" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cached_file_that_changed_is_refused(elsewhere: Path) -> None:
    find_files(None, download=True)
    (elsewhere / CACHE / "train-images-idx3-ubyte.gz").write_bytes(b"other")
    with pytest.raises(
        UserError, match=r"train-images-idx3-ubyte\.gz: its sha256 is wrong; delete"
    ):
        find_files(None, download=True)
