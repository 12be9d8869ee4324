"""What a model is trained to do, as LightningModules, and how its learning rate moves."""

from bitladder.tasks.classification import Classification
from bitladder.tasks.schedules import cosine_with_warmup

__all__ = ["Classification", "cosine_with_warmup"]
