"""How much of a model's arithmetic its quantized layers do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from bitladder.quantization.prepare import quantized_layers
from bitladder.quantization.watch import Call


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiplications with an addition in one pass; those of matrix products and convolutions."""

    total: int
    by_layer: dict[str, int]
    """Those of each quantizable layer, by name; 0 for a layer that did not run."""

    def share(self, layers: dict[str, bool] | None = None) -> float:
        """The share, in [0, 1], that is done by the layers that `layers` says yes to.

        Args:
            layers: Whether a layer counts, by name; all count if ``None``.

        Returns:
            The share; 0 where nothing was multiplied at all.
        """
        chosen = [n for name, n in self.by_layer.items() if layers is None or layers.get(name)]
        return sum(chosen) / self.total if self.total else 0.0


def multiply_adds(model: nn.Module, call: Call) -> MultiplyAdds:
    """Count the multiply-adds of one pass through a prepared model, attention's products included.

    Args:
        model: A prepared model, in the mode that is to be counted.
        call: Arguments of the pass.
    """
    layers = quantized_layers(model)
    by_layer = dict.fromkeys(layers, 0)
    counter = _Counter()

    def leave_out(name: str, module: nn.Module, args: Any) -> None:
        by_layer[name] -= counter.flops

    def count(name: str, module: nn.Module, args: Any, output: Any) -> None:
        by_layer[name] += counter.flops

    handles = [
        handle
        for name, layer in layers.items()
        for handle in (
            layer.register_forward_pre_hook(partial(leave_out, name)),
            layer.register_forward_hook(partial(count, name)),
        )
    ]
    try:
        with torch.no_grad(), counter:
            model(*call.args, **call.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return MultiplyAdds(counter.flops // 2, {name: n // 2 for name, n in by_layer.items()})


class _Counter(TorchDispatchMode):
    """Counts floating-point operations, a multiply-add as two, by PyTorch's own formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=output)
        return output


def _attention_on_cpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _lstm_on_cpu(
    input: torch.Tensor, weight_ih: torch.Tensor, weight_hh: torch.Tensor, *args: Any, **kwargs: Any
) -> int:
    steps, samples, _ = input.shape
    return 2 * steps * samples * (weight_ih.numel() + weight_hh.numel())


# PyTorch's counter knows the attention kernels of GPUs alone, and no LSTM's.
_FORMULAS: dict[Any, Callable[..., int]] = flop_registry | {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpu,
    torch.ops.aten.mkldnn_rnn_layer: _lstm_on_cpu,
}
