"""Conversion, once for all processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from torch import nn

from bitladder.callbacks.ranks import on_rank_zero
from bitladder.errors import RunError
from bitladder.quantization import Call, Deployment, LayerPlan, deploy
from bitladder.quantization.deploy import load_like


def deploy_on_rank_zero(
    trainer: L.Trainer,
    model: nn.Module,
    plans: Sequence[LayerPlan],
    calls: Sequence[Call],
    path: Path,
    *,
    min_sqnr_db: float,
) -> Deployment:
    """:func:`bitladder.quantization.deploy` on rank 0; the other ranks wait and load its artifact.

    Raises:
        UserError: If the model cannot be exported.
        RunError: If int8 is refused; on the other ranks if rank 0 fails, whatever the reason, or if
            they do not see the artifact.
    """

    def write() -> Deployment:
        path.parent.mkdir(parents=True, exist_ok=True)
        return deploy(model, plans, calls, path, min_sqnr_db=min_sqnr_db)

    deployment = on_rank_zero(trainer, write)
    facts: Any = None
    if deployment is not None:
        facts = vars(deployment) | {"run": None}  # the loaded package cannot be sent
    facts = trainer.strategy.broadcast(facts)
    if deployment is not None:
        return deployment
    path = facts["path"]
    if not path.exists():
        raise RunError(
            f"rank {trainer.global_rank} sees no {path}, which rank 0 wrote: give the trainer a"
            " default_root_dir on a disk that all machines share"
        )
    return Deployment(**facts | {"run": load_like(model, calls[0], path)})
