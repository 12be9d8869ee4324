"""Recurrent layers whose matrices are stored as int8 codes, and dequantized once a call."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bitladder.errors import UserError
from bitladder.quantization.layers import QuantLSTM, QuantRecurrent
from bitladder.quantization.qdq import dequantize_rows, quantize_rows
from bitladder.quantization.reference.base import ReferenceLayer, over_channels


class ReferenceRecurrent(ReferenceLayer):
    """An LSTM or GRU whose weights are codes; its input and what it computes are float."""

    bias: bool  # pyright: ignore[reportIncompatibleVariableOverride]
    num_layers: int
    hidden_size: int
    bidirectional: bool
    batch_first: bool

    def __init__(self, layer: QuantRecurrent) -> None:
        nn.Module.__init__(self)  # not ReferenceLayer's, which holds one matrix
        for name in layer.__constants__:
            setattr(self, name, getattr(layer, name))
        self.names = list(layer._flat_weights_names)
        self.long_memory = isinstance(layer, QuantLSTM)
        self.directions = 2 if layer.bidirectional else 1
        self.width = layer.proj_size or layer.hidden_size
        quantizer = layer.weight_quantize
        self.weight_scheme = quantizer.scheme
        rows = len(layer.weight)
        scales = layer.split(over_channels(quantizer.scale.float(), rows).flatten())
        zero_points = layer.split(over_channels(quantizer.zero_point.long(), rows).flatten())
        for name, scale in scales.items():
            matrix = getattr(layer, name).detach().float()
            codes = quantize_rows(matrix, scale, zero_points[name], quantizer.scheme)
            self.register_buffer(f"{name}_codes", codes)
            self.register_buffer(f"{name}_scale", scale)
            self.register_buffer(f"{name}_zero_point", zero_points[name])
        for name in self.names:
            if name not in scales:
                self.register_buffer(name, getattr(layer, name).detach().float())

    def weights(self) -> list[Tensor]:
        """Matrices and biases, fp32, in the order that PyTorch takes them in."""
        return [
            dequantize_rows(
                self.get_buffer(f"{name}_codes"),
                self.get_buffer(f"{name}_scale"),
                self.get_buffer(f"{name}_zero_point"),
                self.weight_scheme,
            )
            if name.startswith("weight")
            else self.get_buffer(name)
            for name in self.names
        ]

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Arguments, output and shapes as the float layer's, fp32.

        Raises:
            UserError: If the input is a packed sequence.
        """
        if isinstance(input, PackedSequence):
            kind = "LSTM" if self.long_memory else "GRU"
            raise UserError(f"a quantized {kind} takes no packed sequence: give a padded tensor")
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(0 if self.batch_first else 1)
        states = self._first_states(x) if hx is None else hx if self.long_memory else (hx,)
        if hx is not None and not batched:
            states = tuple(state.unsqueeze(1) for state in states)
        options = (self.bias, self.num_layers, 0.0, False, self.bidirectional, self.batch_first)
        if self.long_memory:
            output, *last = torch.lstm(x, states, self.weights(), *options)
        else:
            output, *last = torch.gru(x, states[0], self.weights(), *options)
        if not batched:
            output = output.squeeze(0 if self.batch_first else 1)
            last = [state.squeeze(1) for state in last]
        return output, tuple(last) if self.long_memory else last[0]

    def _first_states(self, x: Tensor) -> tuple[Tensor, ...]:
        """Zeros, ``[layers * directions, N, width]`` each."""
        layers, samples = self.num_layers * self.directions, x.shape[0 if self.batch_first else 1]
        widths = (self.width, self.hidden_size) if self.long_memory else (self.width,)
        return tuple(x.new_zeros(layers, samples, width) for width in widths)
