"""Does the int8 model still compute what it was trained to?"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization.trees import tensors
from bitladder.quantization.watch import Call


@dataclass
class _Ratio:
    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: Tensor, x: Tensor) -> None:
        self.signal += reference.double().square().sum().item()
        self.noise += (reference.double() - x.double()).square().sum().item()

    @property
    def db(self) -> float:
        if math.isnan(self.noise) or math.isnan(self.signal):
            return math.nan
        if self.noise == 0.0:
            return math.inf
        ratio = self.signal / self.noise
        return 10.0 * math.log10(ratio) if ratio else -math.inf


def layer_sqnr(
    model: nn.Module, other: nn.Module, layers: Iterable[str], calls: Iterable[Call]
) -> dict[str, float]:
    """Signal-to-quantization-noise ratio of each layer's output, in dB.

    Both models run the same calls; the noise at a layer holds what all layers before it added.

    Args:
        model: The model whose outputs are the signal.
        other: The model that is compared with it; layers have the same names.
        layers: Names of the layers to compare.
        calls: Arguments of the passes.

    Returns:
        dB by layer; infinity where the outputs are equal.
    """
    names = list(layers)
    ratios = {name: _Ratio() for name in names}
    for call in calls:
        signal, x = _outputs(model, names, call), _outputs(other, names, call)
        for name in names:
            for reference, output in zip(signal[name], x[name], strict=True):
                ratios[name].add(reference, output)
    return {name: ratio.db for name, ratio in ratios.items()}


def local_sqnr(
    model: nn.Module, other: nn.Module, points: Mapping[str, str], calls: Iterable[Call]
) -> dict[str, float]:
    """Signal-to-quantization-noise ratio that each layer alone adds, in dB.

    Each layer of ``other`` gets the input of its namesake in ``model``, so what the layers before
    it lost does not count: in a deep network that grows although every layer is right.

    Args:
        model: The model whose outputs are the signal.
        other: The model whose layers are compared; they have the same names.
        points: By layer, the name of the module in ``model`` whose output the layer of ``other``
            must give: the layer, or the BatchNorm that is folded into it.
        calls: Arguments of the passes.

    Returns:
        dB by layer; infinity where the outputs are equal.
    """
    ratios = {name: _Ratio() for name in points}
    pending: dict[str, list[list[Tensor]]] = {name: [] for name in points}

    def run(name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        output = other.get_submodule(name)(*args, **kwargs)
        pending[name].append([x.clone() for x in tensors(output)])

    def compare(name: str, module: nn.Module, args: Any, output: Any) -> None:
        for reference, x in zip(tensors(output), pending[name].pop(), strict=True):
            ratios[name].add(reference, x)

    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for name, point in points.items():
            before = model.get_submodule(name).register_forward_pre_hook(
                partial(run, name), with_kwargs=True
            )
            after = model.get_submodule(point).register_forward_hook(partial(compare, name))
            stack.callback(before.remove)
            stack.callback(after.remove)
        for call in calls:
            model(*call.args, **call.kwargs)
    return {name: ratio.db for name, ratio in ratios.items()}


def output_sqnr(
    model: Callable[..., Any], other: Callable[..., Any], calls: Iterable[Call]
) -> float:
    """Signal-to-quantization-noise ratio of all tensors of the models' outputs, in dB."""
    ratio = _Ratio()
    for call in calls:
        with torch.no_grad():
            signal = tensors(model(*call.args, **call.kwargs))
            x = tensors(other(*call.args, **call.kwargs))
        for reference, output in zip(signal, x, strict=True):
            ratio.add(reference, output)
    return ratio.db


def tensor_sqnr(reference: Tensor, x: Tensor) -> float:
    """Signal-to-quantization-noise ratio of one tensor, in dB."""
    return tensors_sqnr([(reference, x)])


def tensors_sqnr(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Signal-to-quantization-noise ratio of pairs of a reference and a tensor together, in dB."""
    ratio = _Ratio()
    for reference, x in pairs:
        ratio.add(reference, x)
    return ratio.db


def require_repeatable(
    package: Callable[..., Any], call: Call, suspects: Sequence[str] = ()
) -> None:
    """Call a package twice on the same tensors; nothing may change.

    An int8 layer that adds in place to the model's input gives a right first answer, overwrites
    the caller's tensor, and gives a wrong second answer.

    Args:
        package: The compiled model.
        call: Its arguments.
        suspects: Names of the layers that may have been compiled to add in place.

    Raises:
        RunError: If the second answer differs, or an input tensor was written to; names the
            suspects.
    """
    inputs = tensors((call.args, call.kwargs))
    before = [x.clone() for x in inputs]
    first = [x.clone() for x in tensors(package(*call.args, **call.kwargs))]
    changed = not all(_same(x, y) for x, y in zip(inputs, before, strict=True))
    second = tensors(package(*call.args, **call.kwargs))
    differs = not all(_same(x, y) for x, y in zip(first, second, strict=True))
    if changed or differs:
        what = "overwrites its input tensor" if changed else "gives another answer the second time"
        reason = "an operation of the model itself writes in place"
        if suspects:
            reason = (
                f"of its layers {', '.join(suspects)} may add in place; leave them out with"
                " quantization.skip"
            )
        raise RunError(f"the compiled model {what}: {reason}")


def _same(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors hold the same values, NaN in the same places."""
    return torch.allclose(x, y, rtol=0.0, atol=0.0, equal_nan=x.is_floating_point())


def _outputs(model: nn.Module, names: list[str], call: Call) -> dict[str, list[Tensor]]:
    outputs: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str, module: nn.Module, args: Any, output: Any) -> None:
        outputs[name] += [x.detach() for x in tensors(output)]

    handles = [
        model.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names
    ]
    try:
        with torch.no_grad():
            model(*call.args, **call.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
