"""One look at the numbers of a step: hooks that count, and what they counted."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.formats import FloatFormat
from bitladder.metrics.format_shares import Part, Ruler, Tally, part_of
from bitladder.quantization.trees import tensors


class NumericsSample:
    """Counts the numbers of some modules during one step, which may be of several batches.

    Everything stays on the device until :meth:`figures`. A module that is called several times, or
    gives several tensors, is counted as one.

    Args:
        modules: Modules by name.
        formats: The formats that are asked about.
        training: The format that training computes in, if it is known.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        formats: Sequence[FloatFormat],
        training: FloatFormat | None,
    ) -> None:
        self.loss_scale = 1.0
        """What gradients of activations are too large by; to be set before every backward pass."""
        self._modules = modules
        self._formats = formats
        self._training = training
        self._rulers: dict[float, Ruler] = {}
        self._parts: dict[str, tuple[Ruler, list[Part]]] = {}

    def count_weights(self) -> None:
        """Count every module's own parameters."""
        for name, module in self._modules.items():
            for parameter in module.parameters(recurse=False):
                self._count(f"weight/{name}", parameter)

    def count_weight_gradients(self, parameters: Collection[Tensor], scale: float = 1.0) -> None:
        """Count the gradients of those of the modules' own parameters that are in `parameters`.

        Args:
            parameters: What an optimizer is about to change.
            scale: What their gradients are still too large by.
        """
        chosen = {id(parameter) for parameter in parameters}
        for name, module in self._modules.items():
            for parameter in module.parameters(recurse=False):
                if id(parameter) in chosen and parameter.grad is not None:
                    gradient = parameter.grad if scale == 1.0 else parameter.grad / scale
                    self._count(f"weight_gradient/{name}", gradient)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count outputs of the modules, and their gradients, of the passes made in the block."""
        with ExitStack() as stack:
            for name, module in self._modules.items():
                stack.callback(module.register_forward_hook(self._hook(name)).remove)
            yield

    def figures(self) -> dict[str, float]:
        """All shares and magnitudes as `<tensor>/<module>/<figure>`, in few transfers to the host.

        `<tensor>` is `weight`, `activation`, `gradient` or `weight_gradient`; the figures are those
        of :meth:`bitladder.metrics.format_shares.Ruler.read`.
        """
        figures: dict[str, float] = {}
        for ruler in self._rulers.values():
            counted = [
                (key, part)
                for key, (used, parts) in self._parts.items()
                if used is ruler
                for part in parts
            ]
            sums: dict[str, Tally] = {}
            tallies = ruler.count([part for _, part in counted])
            for (key, _), tally in zip(counted, tallies, strict=True):
                sums[key] = sums[key] + tally if key in sums else tally
            for key, tally in sums.items():
                shares = ruler.read(tally)
                figures |= {f"{key}/{name}": share for name, share in shares.items()}
        return figures

    def _hook(self, name: str) -> Any:
        def count_gradient(gradient: Tensor) -> None:
            self._count(f"gradient/{name}", gradient, self.loss_scale)

        def count_output(module: nn.Module, args: Any, output: Any) -> None:
            if torch.compiler.is_compiling():  # traced, without numbers
                return
            for x in tensors(output):
                self._count(f"activation/{name}", x)
                if x.requires_grad:
                    x.register_hook(count_gradient)

        return count_output

    def _count(self, key: str, x: Tensor, scale: float = 1.0) -> None:
        if not x.is_floating_point() or not x.numel():
            return
        if scale not in self._rulers:
            self._rulers[scale] = Ruler(self._formats, scale=scale, stored=self._training)
        ruler = self._rulers[scale]
        # Whoever else is watching functions (the search for BatchNorms does) must not see these.
        with torch._C.DisableTorchFunction():
            part = part_of(x)
        before = self._parts.get(key)
        if before is not None and before[0] is ruler:
            before[1].append(part)
        else:  # under another scale than before, the later gradients count
            self._parts[key] = (ruler, [part])
