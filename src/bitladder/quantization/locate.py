"""Where a compiled model goes wrong."""

import tempfile
from functools import partial, wraps
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bitladder.quantization.compile import compile_package, load_package
from bitladder.quantization.reference import ReferenceLayer
from bitladder.quantization.trees import tensors
from bitladder.quantization.verify import tensor_sqnr
from bitladder.quantization.watch import Call


class _WithOutputs(nn.Module):
    """A model that gives the outputs of its int8 layers, in the order that they ran in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: list[str] = []
        """Names of the layers that gave the outputs."""

        @wraps(model.forward)  # torch.export asks for the signature
        def forward(*args: Any, **kwargs: Any) -> list[Tensor]:
            return self.outputs(*args, **kwargs)

        self.__dict__["forward"] = forward

    def outputs(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """The outputs of the int8 layers for the model's own arguments."""
        outputs: list[Tensor] = []
        self.seen = []

        def keep(name: str, module: nn.Module, args: Any, output: Any) -> None:
            for x in tensors(output):
                self.seen.append(name)
                outputs.append(x.clone())

        handles = [
            module.register_forward_hook(partial(keep, name))
            for name, module in self.model.named_modules()
            if isinstance(module, ReferenceLayer)
        ]
        try:
            self.model(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
        return outputs


def first_miscompiled(model: nn.Module, call: Call, min_sqnr_db: float) -> str | None:
    """The first int8 layer whose compiled output differs from the eager one.

    Compiles the model once more, with every layer's output as an output of its own. What the
    compiler fuses across layers is different then, and so an error may be gone.

    Args:
        model: The converted model, in eval mode on the CPU.
        call: Arguments of a pass.
        min_sqnr_db: The least SQNR, in dB, of an output that counts as right.

    Returns:
        The layer's name; None if every layer is right.
    """
    if not any(isinstance(module, ReferenceLayer) for module in model.modules()):
        return None
    tapped = _WithOutputs(model).eval()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.pt2"
        compile_package(tapped, [call], path)
        run = load_package(path)
        expected, found = tapped(*call.args, **call.kwargs), run(*call.args, **call.kwargs)
    for name, x, y in zip(tapped.seen, expected, found, strict=True):
        if not tensor_sqnr(x, y) >= min_sqnr_db:
            return name
    return None
