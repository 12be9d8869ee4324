"""Fashion-MNIST, read from its IDX files."""

from pathlib import Path

from torch import Tensor

from bitladder.data.augment import random_flip
from bitladder.data.base import ImageDataModule
from bitladder.data.fashion_mnist_files import find_files
from bitladder.data.idx import read_idx
from bitladder.data.images import Images, Normalization
from bitladder.data.splits import Splits, stratified_split
from bitladder.errors import UserError


class FashionMnist(ImageDataModule):
    """70,000 grey pictures of clothes, 28x28 (Xiao et al., arXiv:1708.07747).

    Of the 60,000 training images 5,000 validate, by seed, stratified; the 10,000 test images are
    the published ones. The files come from the first that exists of: ``root``, the folder of
    Debian's package ``dataset-fashion-mnist``, a checked download under ``~/.cache/bitladder``.

    Args:
        root: Folder with the four files, plain or gzip; ``None`` looks in the other places.
        batch_size: Images a batch.
        seed: Fixes splits and orders.
        num_workers: Loader processes.
        augment: Whether training images are mirrored left to right at random.
        download: Whether the files may be fetched if they are nowhere.
    """

    num_classes = 10
    input_shape = (1, 28, 28)
    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    # Mean and deviation of the published training images.
    normalization = Normalization(peak=255.0, mean=0.286, std=0.353)

    VAL_SIZE = 5_000

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 128,
        seed: int = 1,
        num_workers: int = 0,
        augment: bool = True,
        download: bool = False,
    ) -> None:
        super().__init__(batch_size, seed, num_workers, augment)
        self.root = root
        self.download = download

    def prepare_data(self) -> None:
        """Fetch what is missing, if that is allowed, in one process only."""
        find_files(self.root, self.download)

    def load(self) -> Splits:
        """Read the four files.

        Raises:
            UserError: If one is missing or damaged.
        """
        train_pixels, train_labels, test_pixels, test_labels = find_files(self.root, self.download)
        published = self._read(train_pixels, train_labels)
        test = self._read(test_pixels, test_labels)
        if len(published) <= self.VAL_SIZE:
            raise UserError(
                f"{train_labels}: {len(published)} images, too few to keep {self.VAL_SIZE} back"
            )
        train, val = stratified_split(published.labels, self.VAL_SIZE, self.seed)
        return Splits(published.pick(train), published.pick(val), test)

    def augment_batch(self, x: Tensor) -> Tensor:
        """Mirror each image left to right with probability one half."""
        return random_flip(x)

    def _read(self, pixels_file: Path, labels_file: Path) -> Images:
        pixels, labels = read_idx(pixels_file, dims=3), read_idx(labels_file, dims=1).long()
        if pixels.shape[1:] != self.input_shape[1:]:
            size = "x".join(str(side) for side in pixels.shape[1:])
            raise UserError(f"{pixels_file}: images of {size}, expected 28x28")
        if len(labels) != len(pixels):
            raise UserError(f"{labels_file}: {len(labels)} labels for {len(pixels)} images")
        if labels.max() >= self.num_classes:
            raise UserError(f"{labels_file}: a label {labels.max()}, expected 0 to 9")
        return Images(pixels.unsqueeze(1), labels)
