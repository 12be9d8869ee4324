"""What a Lightning checkpoint leaves out of where a training stands, between two batches.

Lightning saves counters, but on restart counts some of them again; it saves neither the sums behind
``train/loss`` of an epoch that is half over, nor the states of torchmetrics, the module's and those
that score the float model, nor the metrics that callbacks monitor. This is what is saved of them,
as tensors and plain containers.
"""

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.trainer.connectors.logger_connector.result import (
    _ResultCollection,
    _ResultMetric,
)
from torch import Tensor

from bitladder.callbacks.metric_state import (
    detached,
    load_metric_state,
    metric_state,
    named_metrics,
)
from bitladder.callbacks.quantization import Quantization


def snapshot(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
    """What :class:`Progress` needs to go on from here; tensors are copies, on the CPU."""
    loop = trainer.fit_loop.epoch_loop
    return {
        "steps_logged": loop._batches_that_stepped,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "monitored": {key: detached(value) for key, value in trainer.callback_metrics.items()},
        "sums": {key: _sums(entry) for key, entry in loop._results.items() if _has_sums(entry)},
        "metrics": {name: metric_state(metric) for name, metric in named_metrics(module)},
        "float_metrics": {x.state_key: x.float_metrics() for x in _quantizations(trainer)},
    }


class Progress:
    """Puts a snapshot back, in the steps in which Lightning can take it.

    Args:
        state: From :func:`snapshot`.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state
        self._sums: dict[str, dict[str, Tensor]] = dict(state["sums"])
        self._counted = False

    def before_training(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Restore what the loops do not touch when they start: in ``on_train_start``."""
        trainer.fit_loop.epoch_loop.update_lr_schedulers = _per_epoch(trainer)
        trainer._logger_connector._callback_metrics.update(self._state["monitored"])
        metrics = dict(named_metrics(module))
        for name, state in self._state["metrics"].items():
            if name in metrics:
                load_metric_state(metrics[name], state)
        for callback in _quantizations(trainer):
            callback.load_float_metrics(self._state["float_metrics"].get(callback.state_key, {}))

    def before_batch(self, trainer: L.Trainer) -> None:
        """Set right, at the first batch, what restarting has counted and logged twice."""
        if not self._counted:
            self._counted = True
            loop = trainer.fit_loop
            self._drop(loop.epoch_loop._results)
            del loop.epoch_loop.update_lr_schedulers
            # GradientAccumulationScheduler sets it, and refuses to start where it is set.
            trainer.accumulate_grad_batches = self._state["accumulate_grad_batches"]
            loop.epoch_loop._batches_that_stepped = self._state["steps_logged"]
            # Else the epoch would end without a step of the schedulers that wait for a plateau.
            loop._restarting = loop.epoch_loop._restarting = False
        self.add_sums(trainer.fit_loop.epoch_loop._results)

    def _drop(self, results: _ResultCollection) -> None:
        """What ``on_train_start`` has logged stands as it stood, if it was of this epoch."""
        for key in [key for key, entry in results.items() if entry.is_tensor]:
            sums = self._sums.pop(key, None)
            if sums is None:
                del results[key]
            else:
                _set(results[key], sums)

    def add_sums(self, results: _ResultCollection) -> None:
        """Add the sums of the batches before to each value that has been logged since.

        Call it after the first log and before the second: then each addition is the one that the
        uninterrupted run made, and rounds alike.
        """
        for key in self._sums.keys() & results.keys():
            _add(results[key], self._sums.pop(key))


def _per_epoch(trainer: L.Trainer) -> Callable[..., None]:
    """What updates the schedules of epochs alone.

    Where a validation follows the batch before, Lightning goes once through the end of that batch
    again, and would take another step of the schedules that wait for a plateau.
    """
    update = trainer.fit_loop.epoch_loop.update_lr_schedulers

    def per_epoch(interval: str, update_plateau_schedulers: bool) -> None:
        if interval == "epoch":
            update(interval, update_plateau_schedulers=update_plateau_schedulers)

    return per_epoch


def _has_sums(entry: _ResultMetric) -> bool:
    return entry.is_tensor and entry.meta.on_epoch and not entry.has_reset


def _sums(entry: _ResultMetric) -> dict[str, Tensor]:
    sums = {"value": detached(entry.value)}
    if entry.meta.is_mean_reduction:
        sums["samples"] = detached(entry.cumulated_batch_size)
    return sums


def _set(entry: _ResultMetric, sums: dict[str, Tensor]) -> None:
    value = entry.value
    assert isinstance(value, Tensor), "it is no metric"
    entry.value = sums["value"].to(value.device)
    if entry.meta.is_mean_reduction:
        entry.cumulated_batch_size = sums["samples"].to(value.device)


def _add(entry: _ResultMetric, sums: dict[str, Tensor]) -> None:
    value = entry.value
    assert isinstance(value, Tensor), "it was a number before the checkpoint"
    before = sums["value"].to(value.device)
    largest = entry.meta.is_max_reduction or entry.meta.is_min_reduction
    entry.value = entry.meta.reduce_fx(before, value) if largest else before + value
    if entry.meta.is_mean_reduction:
        samples = sums["samples"].to(value.device)
        entry.cumulated_batch_size = samples + entry.cumulated_batch_size


def _quantizations(trainer: L.Trainer) -> list[Quantization]:
    callbacks: list[L.Callback] = getattr(trainer, "callbacks", [])
    return [callback for callback in callbacks if isinstance(callback, Quantization)]
