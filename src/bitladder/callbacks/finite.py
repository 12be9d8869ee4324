"""Finding what holds NaN or infinity, and its name."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bitladder.callbacks.calibration import muted, run_step
from bitladder.quantization import quantized_layers
from bitladder.quantization.trees import tensors


def is_finite(x: Tensor) -> bool:
    """Whether no element is NaN or infinite; integers never are."""
    return not x.is_floating_point() or bool(torch.isfinite(x).all())


def gradients(optimizer: Optimizer) -> list[Tensor]:
    """The gradients that an optimizer is going to step with; of sparse ones what they hold."""
    found = [x.grad for group in optimizer.param_groups for x in group["params"]]
    return [_dense(x) if x.is_sparse else x for x in found if x is not None]


def bad_gradient(module: nn.Module, found: Sequence[Tensor]) -> str | None:
    """The name of the first parameter whose gradient is not finite, or None.

    One norm over each, all at once, says in the usual case that there is none.

    Args:
        module: Where the parameters have names.
        found: From :func:`gradients`.
    """
    if not found:
        return None
    # torch.nn.utils.get_total_norm, which is public, takes three times as long.
    norms = torch._foreach_norm(list(found))  # pyright: ignore[reportPrivateImportUsage]
    if len({x.device for x in norms}) > 1:
        norms = [x.to(norms[0].device) for x in norms]
    if math.isfinite(torch.stack(list(norms)).sum().item()):
        return None
    # The sum of finite norms may overflow, and so may a norm: each gradient is asked.
    return _first((name, x.grad) for name, x in module.named_parameters())


def finite_state(module: nn.Module) -> set[str]:
    """What of a module's state has to stay finite: a mask of minus infinity is meant so."""
    trained = {name for name, x in module.named_parameters() if x.requires_grad}
    return module.state_dict().keys() - (set(_not_finite(module.state_dict().items())) - trained)


def bad_state(module: nn.Module, watched: set[str]) -> str | None:
    """What is not finite, in words: the watched part of the state, or an observer's range."""
    state = module.state_dict()
    if (name := _first((name, state[name]) for name in state if name in watched)) is not None:
        return f"{name} holds NaN or infinity"
    for name, layer in quantized_layers(module).items():
        for what in ("weight", "input"):
            observer = getattr(getattr(layer, f"{what}_quantize"), "observer", None)
            if (
                observer is not None
                and observer.saw_data
                and not all(map(is_finite, observer.range()))
            ):
                return f"the observer of {name}'s {what} saw NaN or infinity"
    return None


def bad_module(module: L.LightningModule, batch: Any, index: int) -> str | None:
    """The first submodule that gives NaN or infinity when the step of this batch runs again.

    For a training that is over: what counts batches, such as BatchNorm, counts this one twice.
    None, too, where the module cannot run the step by itself.
    """
    if not module.automatic_optimization:
        return None
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            if not found and not all(map(is_finite, tensors(output))):
                found.append(name)

        return hook

    with ExitStack() as stack:
        for name, child in module.named_modules():
            if name:
                stack.callback(child.register_forward_hook(look(name)).remove)
        stack.enter_context(muted(module))
        # Whatever the module needs that is not there now, the bad loss is what is to be told.
        with suppress(Exception):
            run_step(module, batch, index)
    return found[0] if found else None


def _first(named: Iterable[tuple[str, Any]]) -> str | None:
    return next(_not_finite(named), None)


def _not_finite(named: Iterable[tuple[str, Any]]) -> Iterator[str]:
    for name, x in named:
        if isinstance(x, Tensor) and not is_finite(_dense(x)):
            yield name


def _dense(x: Tensor) -> Tensor:
    return x.coalesce().values() if x.is_sparse else x
