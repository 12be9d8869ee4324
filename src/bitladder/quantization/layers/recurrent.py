"""Recurrent layers: many matrices, every row of each with a scale of its own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitladder.quantization.layers.base import QuantizedLayer


class QuantRecurrent(QuantizedLayer, nn.RNNBase):  # pyright: ignore[reportIncompatibleVariableOverride]
    """What recurrent layers share.

    Their matrices are quantized as one, below each other and filled up with zeros to one width: a
    row's range and scale know nothing of the others, and zero is on every grid.
    """

    why_weight_only = (
        "a step's product waits for the step before and is small, and no int8 kernel does the whole"
        " loop: codes and a scale a row are stored"
    )

    @classmethod
    def inputs(cls, layer: nn.Module) -> None:
        """Its matrices are of different widths."""
        return None

    @property
    def matrices(self) -> dict[str, Tensor]:
        """The parameters that are quantized, by name, shape ``[rows, columns]`` each."""
        return {
            name: getattr(self, name)
            for name in self._flat_weights_names
            if name.startswith("weight")
        }

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All matrices in one, shape ``[all rows, most columns]``."""
        matrices = self.matrices.values()
        width = max(matrix.shape[1] for matrix in matrices)
        return torch.cat([F.pad(matrix, (0, width - matrix.shape[1])) for matrix in matrices])

    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """What there is one of for each row of :attr:`weight`, by the name of the matrix."""
        matrices = self.matrices
        parts = rows.split([matrix.shape[0] for matrix in matrices.values()])
        return dict(zip(matrices, parts, strict=True))

    def forward(self, input: Any, hx: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What the float layer gives for its own arguments, with rounded matrices if asked to."""
        if not self.weight_quantize.active:
            return self.float_type.forward(self, input, hx)
        held, rounded = self._flat_weights, self.split(self.weight_quantize(self.weight))
        self._flat_weights = [
            rounded[name][:, : parameter.shape[1]] if name in rounded else parameter
            for name, parameter in zip(self._flat_weights_names, held, strict=True)
        ]
        try:
            return self.float_type.forward(self, input, hx)
        finally:
            self._flat_weights = held

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """All matrices in one, fp32, and no bias: every matrix has its own."""
        return self.weight.detach().float(), None


class QuantLSTM(QuantRecurrent, nn.LSTM):  # pyright: ignore[reportIncompatibleVariableOverride]
    """:class:`torch.nn.LSTM`, its matrices quantized on demand."""

    float_type = nn.LSTM


class QuantGRU(QuantRecurrent, nn.GRU):  # pyright: ignore[reportIncompatibleVariableOverride]
    """:class:`torch.nn.GRU`, its matrices quantized on demand."""

    float_type = nn.GRU
