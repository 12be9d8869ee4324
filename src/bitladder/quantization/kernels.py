"""Which layers Inductor really gave int8 kernels, and what these write to."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from bitladder.errors import RunError

_KERNELS = ("onednn.qconv", "onednn.qlinear")
_FUSED_ADDITIONS = ("qlinear_binary", "qconv_binary")
"""Inductor's fusions of an int8 layer and an addition, which may overwrite the other summand."""


@dataclass
class Int8Kernels:
    """Reads int8 kernels off Inductor's graph while it compiles.

    A model that kept its quantize and dequantize operators but got float kernels still gives the
    right answers, only no faster: nothing but the graph tells.
    """

    scales: set[str] = field(default_factory=set)
    """The graph's names of the weight scales that int8 kernels take."""
    codes: set[str] = field(default_factory=set)
    """The graph's names of the int8 constants that are left to be dequantized when it runs."""
    adding: set[str] = field(default_factory=set)
    """The graph's names of what int8 kernels fused with an addition take."""

    def collect(self, graph: torch.fx.Graph) -> None:
        """Inductor's hook: called with the graph after int8 kernels were chosen."""
        for node in graph.nodes:
            if node.op == "get_attr" and getattr(node.meta.get("val"), "dtype", None) == torch.int8:
                self.codes.add(node.name)
            if node.op == "call_function" and str(node.target).startswith(_KERNELS):
                self.scales |= {arg.name for arg in node.args if isinstance(arg, torch.fx.Node)}

    def protect(self, graph: torch.fx.Graph) -> None:
        """Inductor's hook: called with the graph after its fusions; lets them write to no input.

        A fused addition reuses the memory of its other summand. Inductor sees to it that nobody
        else reads that memory later, but forgets the caller where it is an input of the graph. A
        copy that the model itself makes is optimised away before the fusions; this one is not.
        """
        for node in list(graph.nodes):
            if getattr(node.target, "__name__", "") not in _FUSED_ADDITIONS:
                continue
            self.adding |= {argument.name for argument in node.all_input_nodes}
            for argument in node.all_input_nodes:
                if argument.op == "placeholder":
                    with graph.inserting_before(node):
                        copied = graph.call_function(torch.ops.aten.clone.default, (argument,))
                    copied.meta = dict(argument.meta)
                    node.replace_input_with(argument, copied)

    def in_place(self, layers: Iterable[str]) -> list[str]:
        """The layers, by name in the model, whose kernel also adds and may do so in place."""
        adding = _plain(self.adding)
        return [name for name in layers if _graph_name(name, "weight_scale") in adding]

    def missing(self, layers: Iterable[str]) -> list[str]:
        """The layers, by name in the model, that have no int8 kernel."""
        scales = _plain(self.scales)
        return [name for name in layers if _graph_name(name, "weight_scale") not in scales]

    def require(self, layers: Iterable[str]) -> None:
        """Refuse a model that came out in float.

        Raises:
            RunError: If a layer has no int8 kernel; names the layers.
        """
        missing = self.missing(layers)
        if missing:
            raise RunError(
                f"Inductor chose no int8 kernel for {', '.join(missing)}: the artifact would run"
                " them in float; leave them out with quantization.skip"
            )

    def require_codes(self, layers: Mapping[str, Iterable[str]]) -> None:
        """Refuse a package that holds float weights where it should hold their codes.

        The compiler computes ahead what depends on constants alone, dequantized weights too.

        Args:
            layers: The names of the weights of each layer that is stored as codes.

        Raises:
            RunError: If a layer's codes are gone; names the layers.
        """
        codes = _plain(self.codes)
        unpacked = [
            layer
            for layer, weights in layers.items()
            if any(_graph_name(layer, f"{weight}_codes") not in codes for weight in weights)
        ]
        if unpacked:
            raise RunError(
                f"Inductor kept no int8 codes of {', '.join(unpacked)}: the artifact would hold"
                " their weights in float; leave them out with quantization.skip"
            )


def _plain(names: set[str]) -> set[str]:
    """Names without the underscore that ``torch.fx`` puts before a digit."""
    return {name.lstrip("_") for name in names}


def _graph_name(layer: str, buffer: str) -> str:
    """The graph's name of a layer's buffer, as ``torch.fx`` spells it.

    In snake case, and without the underscore that it puts before a digit.
    """
    snake = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", f"{layer}.{buffer}").lower()
    return re.sub(r"\W+", "_", snake).lstrip("_")
