"""Layers of other libraries, known by name: only a model that uses them imports those libraries."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from bitladder.quantization.layers.base import QuantizedLayer


class QuantInputsFirst(QuantizedLayer):
    """A linear whose parameter is ``[in, out]``, as the ``Conv1D`` of `transformers` in GPT-2."""

    __constants__: ClassVar[list[str]] = ["nf", "nx"]

    def outputs_first(self, weight: Tensor) -> Tensor:
        """``[in, out]`` to ``[out, in]``."""
        return weight.T

    def as_held(self, weight: Tensor) -> Tensor:
        """``[out, in]`` to ``[in, out]``."""
        return weight.T

    def folds(self, output: Tensor) -> bool:
        """With more than two dimensions the channels of a BatchNorm are not the features."""
        return output.dim() == 2

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``input @ weight + bias``."""
        assert bias is not None
        output = torch.addmm(bias, input.reshape(-1, input.shape[-1]), weight)
        return output.view(*input.shape[:-1], -1)


FOREIGN: dict[str, type[QuantizedLayer]] = {"transformers.pytorch_utils.Conv1D": QuantInputsFirst}
"""What the twin of a library's layer is made of, by the layer's full name."""


def foreign_twin(kind: type[nn.Module]) -> type[QuantizedLayer] | None:
    """The twin of a layer of another library, if it is one that is known."""
    base = FOREIGN.get(f"{kind.__module__}.{kind.__qualname__}")
    return base and type(f"Quant{kind.__name__}", (base, kind), {"float_type": kind})
