"""Image classification with cross-entropy."""

import math
from collections.abc import Callable
from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from bitladder.errors import UserError

Batch = tuple[Tensor, Tensor]


class Classification(LightningModule):
    """Trains a network to tell classes apart.

    Logs, all averaged over the samples of an epoch:

    - ``train/loss``, ``val/loss``, ``test/loss``: cross-entropy in nats, label smoothing included.
    - ``train/accuracy``, ``val/accuracy``, ``test/accuracy``: fraction of right answers.
    - ``train/loss_step``: the loss of every step; beside it, loggers get the epoch's ``train/loss``
      as ``train/loss_epoch``.

    Args:
        net: Gives logits ``[batch, num_classes]``; this is what gets quantized.
        optimizer: Called with parameter groups, gives the optimizer. Weights decay; biases and
            normalization, which have fewer than two dimensions, do not.
        scheduler: Called with the optimizer and ``total_steps``, gives the schedule that moves on
            after every step; ``None`` keeps the learning rate.
        num_classes: Number of classes.
        label_smoothing: Probability mass spread over all classes (Szegedy et al., CVPR 2016).

    Raises:
        UserError: If ``label_smoothing`` is outside [0, 1).
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(
                f"task.label_smoothing={label_smoothing}: write a number in 0 to below 1"
            )
        self.net = net
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.label_smoothing = label_smoothing
        self.train_accuracy, self.val_accuracy, self.test_accuracy = (
            MulticlassAccuracy(num_classes, average="micro", validate_args=False) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, num_classes]`` of images ``[batch, channels, height, width]``."""
        return self.net(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        return self._score("train", batch, self.train_accuracy)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and accuracy."""
        self._score("val", batch, self.val_accuracy)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and accuracy."""
        self._score("test", batch, self.test_accuracy)

    def predict_step(self, batch: Batch | list[Tensor] | Tensor, batch_idx: int) -> Tensor:
        """Logits of a batch ``x`` or ``(x, y)``."""
        return self(batch if isinstance(batch, Tensor) else batch[0])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over two groups of parameters and, if there is one, its schedule.

        Raises:
            UserError: If there is a schedule and the number of steps is not known.
        """
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        optimizer = self.optimizer(
            [
                {"params": [p for p in parameters if p.ndim >= 2]},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ]
        )
        if self.scheduler is None:
            return optimizer
        total_steps = self.trainer.estimated_stepping_batches
        if math.isinf(total_steps):
            raise UserError("a scheduler needs an end: set trainer.max_epochs or trainer.max_steps")
        scheduler = self.scheduler(optimizer, total_steps=int(total_steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Refuse a checkpoint's schedule that would end before this training does.

        Raises:
            UserError: Says how many steps the schedule and the training have.
        """
        scheduler = self.lr_schedulers()
        planned = getattr(scheduler, "total_steps", math.inf)
        steps = self.trainer.estimated_stepping_batches
        if planned < steps:
            raise UserError(
                f"the checkpoint's {type(scheduler).__name__} ends after {planned} steps and this"
                f" training after {int(steps)}: train for as long as it was planned, or write"
                " scheduler=none"
            )

    def _score(self, stage: str, batch: Batch, accuracy: Metric) -> Tensor:
        x, y = batch
        logits = self(x).float()
        loss = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
        accuracy.update(logits, y)
        training = stage == "train"
        self.log(f"{stage}/loss", loss, on_step=training, on_epoch=True, batch_size=len(y))
        self.log(f"{stage}/accuracy", accuracy, on_step=False, on_epoch=True, batch_size=len(y))
        return loss
