"""Scoring the float model beside the quantized one, batch by batch."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric, MetricCollection

from bitladder.callbacks.metric_state import (
    MetricState,
    load_metric_state,
    metric_state,
    named_metrics,
)
from bitladder.callbacks.target import find_target
from bitladder.errors import UserError
from bitladder.quantization import quantized_layers
from bitladder.quantization.copies import without_history

PREFIX = "float/"
"""What the float model's metrics are called beyond their own names."""


class FloatValidation:
    """Runs a module's validation a second time on every batch, with nothing rounded.

    A twin of the module does it, which shares networks, parameters and data with the module, and
    has metrics, lists and other attributes of its own, so that the module's are as if there were no
    twin. What the twin logs, the module logs under ``float/``, with all that Lightning does with
    it: averages, loggers, ``ModelCheckpoint``, ``EarlyStopping``. The random state is put back.

    The twin's metrics live as long as this object: a maximum over epochs is the float model's own.
    :meth:`metrics` and :meth:`load_metrics` bring them to another process.
    """

    def __init__(self) -> None:
        self._metrics: dict[int, Metric | MetricCollection] = {}
        self._restored: dict[str, MetricState] = {}
        self._twin: L.LightningModule | None = None
        self._targets: list[nn.Module] = []

    def metrics(self, module: L.LightningModule) -> dict[str, MetricState]:
        """Where the twin's metrics stand, by the names that the module's have."""
        named = ((name, self._metrics.get(id(x))) for name, x in named_metrics(module))
        here = {name: metric_state(x) for name, x in named if isinstance(x, Metric)}
        return self._restored | here  # what no validation has taken up yet is still to come

    def load_metrics(self, states: dict[str, MetricState]) -> None:
        """Let the twin's metrics start where :meth:`metrics` found them."""
        self._restored = states

    def start(self, module: L.LightningModule, targets: Sequence[str | None]) -> None:
        """Make the twin, at the start of a validation epoch.

        Args:
            module: The module, in eval mode.
            targets: Which of its submodules are quantized, as :func:`find_target` takes them.

        Raises:
            UserError: If ``validation_step`` takes an iterator, which cannot give a batch twice.
        """
        if is_param_in_hook_signature(module.validation_step, "dataloader_iter", explicit=True):
            raise UserError(
                f"{type(module).__name__}.validation_step takes an iterator, which gives every"
                " batch once: write quantization.validate_float=false"
            )
        self._twin = twin = self._copy(module)
        twin.trainer = module.trainer
        names = {id(part): name for name, part in twin.named_modules()}

        def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            if isinstance(value, Metric):  # Lightning would look for it in the module itself
                kwargs.setdefault("metric_attribute", names.get(id(value)))
            module.log(PREFIX + name, value, *args, **kwargs)

        vars(twin)["log"] = log  # log_dict calls it too
        self._targets = [find_target(twin, target) for target in targets]
        with self._running():
            twin.on_validation_epoch_start()

    def step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        """Validate the twin on a batch that the module was validated on."""
        twin = self._twin
        assert twin is not None
        trainer = twin.trainer
        loop = trainer._evaluation_loop
        several = loop._is_sequential and loop.num_dataloaders > 1
        kwargs = loop._build_kwargs(batch, batch_idx, dataloader_idx if several else None)
        with self._running():
            twin.on_validation_batch_start(*kwargs.values())
            with trainer.precision_plugin.val_step_context():
                args = loop._build_step_args_from_hook_kwargs(kwargs, "validation_step")
                outputs = twin.validation_step(*args)
            twin.on_validation_batch_end(outputs, *kwargs.values())

    def end(self) -> None:
        """Let the twin log what it gathered over the epoch, and drop it."""
        assert self._twin is not None
        with self._running():
            self._twin.on_validation_epoch_end()
        self._twin, self._targets = None, []

    @contextmanager
    def _running(self) -> Iterator[None]:
        """What the module's own state is kept from while the twin runs."""
        assert self._twin is not None
        with ExitStack() as stack:
            stack.enter_context(isolate_rng(include_cuda=self._twin.device.type == "cuda"))
            for target in self._targets:
                stack.enter_context(in_float(target))
            yield

    def _copy(self, module: L.LightningModule) -> L.LightningModule:
        """A copy that shares what validation only reads."""
        shared: list[object] = list(module.parameters())
        for part in module.modules():
            network = any(True for _ in part.parameters())
            if part is not module and network and not _metrics(part):
                shared.append(part)
                continue
            own = vars(part)
            # Hooks belong to others, who may hold all the world.
            shared += [x for name, x in own.items() if name.endswith("_hooks")]
            shared += [x for x in own.values() if isinstance(x, Dataset | DataLoader)]
        memo = without_history(module) | {id(x): x for x in shared}
        metrics = _metrics(module)
        new = [x for x in metrics if id(x) not in self._metrics]
        for metric, twin in zip(new, copy.deepcopy(new, memo), strict=True):
            twin.reset()
            self._metrics[id(metric)] = twin
        for name, metric in named_metrics(module):
            twin = self._metrics[id(metric)]
            if isinstance(twin, Metric) and name in self._restored:
                load_metric_state(twin, self._restored.pop(name))
        return copy.deepcopy(module, memo | {id(x): self._metrics[id(x)] for x in metrics})


def _metrics(module: nn.Module) -> list[Metric | MetricCollection]:
    return [x for x in module.modules() if isinstance(x, Metric | MetricCollection)]


@contextmanager
def in_float(model: nn.Module) -> Iterator[None]:
    """Neither rounding nor the compiled int8 model inside the block."""
    quantizers = [
        quantizer
        for layer in quantized_layers(model).values()
        for quantizer in (layer.input_quantize, layer.weight_quantize)
        if quantizer.quantizing
    ]
    sent = vars(model).pop("forward", None)
    for quantizer in quantizers:
        quantizer.quantizing = False
    try:
        yield
    finally:
        for quantizer in quantizers:
            quantizer.quantizing = True
        if sent is not None:
            vars(model)["forward"] = sent
