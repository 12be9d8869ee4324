"""Watching one real pass: what calls what, with which tensors.

Which BatchNorm follows which layer is seen, not traced: a BatchNorm belongs to a layer when its
input *is* that layer's output and nothing else uses that output. This works with any control flow.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bitladder.quantization.layers import BatchNorm, QuantizedLayer
from bitladder.quantization.trees import tensors

_stance = ExitStack()
_uncompiled = 0
"""How many blocks of :func:`uncompiled` have not ended; the stack holds what undoes the first."""


@dataclass
class Call:
    """The arguments of one call of a module."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class Observed:
    """What was seen while watching."""

    batch_norms: dict[str, str] = field(default_factory=dict)
    """Names of BatchNorms by the name of the layer that each follows."""
    executed: set[str] = field(default_factory=set)
    """Names of the quantizable layers that ran."""


class _CountUses(TorchFunctionMode):
    """Counts how many functions that give tensors take a tensor, alone or in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: dict[int, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if tensors(result):
            self.count((args, kwargs))
        return result

    def count(self, tree: Any) -> None:
        """Count one more use of every tensor in a tree of arguments or outputs."""
        for value in tensors(tree):
            self.uses[id(value)] = self.uses.get(id(value), 0) + 1


@contextmanager
def watch(model: nn.Module) -> Iterator[Observed]:
    """Watch the passes made inside the ``with`` block; the answer is complete at its end.

    Args:
        model: A prepared model.

    Yields:
        An :class:`Observed` that is filled when the block ends without an exception.
    """
    observed = Observed()
    names = {module: name for name, module in model.named_modules()}
    counter = _CountUses()
    outputs: list[tuple[QuantizedLayer, Tensor]] = []
    norms: list[BatchNorm] = []
    pairs: list[tuple[QuantizedLayer, Tensor, BatchNorm]] = []

    def keep_output(layer: nn.Module, args: Any, output: Any) -> None:
        assert isinstance(layer, QuantizedLayer)
        observed.executed.add(names[layer])
        if isinstance(output, Tensor):  # a recurrent layer gives several
            outputs.append((layer, output))  # keeping it alive keeps its id from being used again
            counter.uses[id(output)] = 0

    def match_input(norm: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(norm, BatchNorm)
        norms.append(norm)
        for layer, output in outputs:
            if args and output is args[0] and layer.folds(output):
                pairs.append((layer, output, norm))

    def count_returned(_: nn.Module, args: Any, output: Any) -> None:
        counter.count(output)

    with ExitStack() as stack:
        stack.callback(model.register_forward_hook(count_returned).remove)
        for module in names:
            if isinstance(module, QuantizedLayer):
                stack.callback(module.register_forward_hook(keep_output).remove)
            elif type(module) in get_args(BatchNorm):
                stack.callback(module.register_forward_pre_hook(match_input).remove)
        stack.enter_context(counter)
        yield observed
    calls = [layer for layer, _ in outputs]
    for layer, output, norm in pairs:
        alone = counter.uses[id(output)] == 1 and norm.track_running_stats
        if alone and calls.count(layer) == 1 and norms.count(norm) == 1:
            observed.batch_norms[names[layer]] = names[norm]


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled models as they are written: only then do they call hooks.

    Blocks may overlap, as those of two callbacks do; the last one that ends lets compile again.
    """
    global _uncompiled
    if not _uncompiled:
        _stance.enter_context(torch.compiler.set_stance("force_eager"))
    _uncompiled += 1
    try:
        yield
    finally:
        _uncompiled -= 1
        if not _uncompiled:
            _stance.close()


@contextmanager
def capture_calls(module: nn.Module) -> Iterator[list[Call]]:
    """Collect the arguments of every call of ``module`` inside the ``with`` block."""
    calls: list[Call] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(Call(args, kwargs))

    handle = module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def with_samples(calls: Iterable[Call]) -> list[Call]:
    """The calls whose first tensor is of at least one sample: an empty batch shows nothing."""

    def samples(call: Call) -> int:
        return next((len(x) for x in tensors((call.args, call.kwargs)) if x.dim()), 1)

    return [call for call in calls if samples(call)]
