"""Small image classifiers: what the shipped experiments train. No Lightning here."""

from bitladder.models.mlp import MLP
from bitladder.models.resnet import ResNet
from bitladder.models.vision_transformer import VisionTransformer

__all__ = ["MLP", "ResNet", "VisionTransformer"]
