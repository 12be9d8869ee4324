"""Where torchmetrics stand between two updates: Lightning saves it in no checkpoint by default."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

MetricState = dict[str, Any]


def named_metrics(module: nn.Module) -> Iterator[tuple[str, Metric]]:
    """Every metric of a module with its name, those of collections and wrappers too."""
    return ((name, x) for name, x in module.named_modules() if isinstance(x, Metric))


def metric_state(metric: Metric) -> MetricState:
    """A metric's state as plain containers and copies of its tensors, on the CPU."""
    states = {
        name: [detached(x) for x in value] if isinstance(value, list) else detached(value)
        for name, value in metric.metric_state.items()
    }
    return {"updates": metric._update_count, "states": states}


def load_metric_state(metric: Metric, state: MetricState) -> None:
    """Put back what :func:`metric_state` gave."""
    for name, value in state["states"].items():
        here = (
            [x.to(metric.device) for x in value]
            if isinstance(value, list)
            else value.to(metric.device)
        )
        setattr(metric, name, here)
    metric._update_count = state["updates"]
    metric._computed = None


def detached(value: Any) -> Tensor:
    """A copy on the CPU, without history."""
    return torch.as_tensor(value).detach().cpu().clone()
