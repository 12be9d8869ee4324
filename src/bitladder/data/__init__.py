"""Image data sets as LightningDataModules, held in memory."""

from bitladder.data.base import Batch, ImageDataModule
from bitladder.data.digits import Digits
from bitladder.data.fashion_mnist import FashionMnist
from bitladder.data.synthetic import Synthetic

__all__ = ["Batch", "Digits", "FashionMnist", "ImageDataModule", "Synthetic"]
