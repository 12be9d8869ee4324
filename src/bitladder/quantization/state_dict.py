"""What a prepared model knows beyond its parameters, for a checkpoint."""

from typing import Any

from torch import nn

from bitladder.errors import UserError
from bitladder.quantization.layers import BatchNorm, QuantizedLayer
from bitladder.quantization.prepare import quantized_layers
from bitladder.quantization.state import Float32State


def quantization_state(model: nn.Module) -> dict[str, Any]:
    """Ranges, scales, switches and folded BatchNorms of a prepared model.

    Returns:
        Tensors and plain containers, so that a checkpoint loads with ``weights_only=True``.
    """
    names = {module: name for name, module in model.named_modules()}
    return {
        name: {
            "batch_norm": None if layer.batch_norm is None else names[layer.batch_norm],
            "input": _quantizer_state(layer.input_quantize),
            "weight": _quantizer_state(layer.weight_quantize),
        }
        for name, layer in quantized_layers(model).items()
    }


def load_quantization_state(model: nn.Module, state: dict[str, Any]) -> None:
    """Put back what :func:`quantization_state` gave.

    Raises:
        UserError: If the state is of a model with other quantized layers or observers.
    """
    layers = quantized_layers(model)
    if layers.keys() != state.keys():
        differing = sorted(layers.keys() ^ state.keys())[0]
        raise UserError(
            f"the checkpoint was written with other quantized layers (first difference:"
            f" {differing}): use the skip, only and target it was trained with"
        )
    for name, layer in layers.items():
        saved = state[name]
        norm = saved["batch_norm"]
        layer.fold(None if norm is None else _batch_norm(model, norm))
        for quantizer, part in (
            (layer.input_quantize, saved["input"]),
            (layer.weight_quantize, saved["weight"]),
        ):
            grid = _grid(quantizer)
            if part.get("grid", grid) != grid:  # checkpoints had none while there was one alone
                raise UserError(
                    f"the checkpoint rounds {name} to another grid ({part['grid']}, not {grid}):"
                    " use the quantization.weights and activations it was trained with"
                )
            try:
                quantizer.load_state(part["tensors"])
            except KeyError as error:
                raise UserError(
                    f"the checkpoint has no {error} for {name}: it was trained with another"
                    " observer"
                ) from error
            for switch in ("observing", "quantizing"):
                if hasattr(quantizer, switch):
                    setattr(quantizer, switch, part[switch])


def _quantizer_state(quantizer: Float32State) -> dict[str, Any]:
    return {
        "grid": _grid(quantizer),
        "tensors": quantizer.state(),
        "observing": bool(getattr(quantizer, "observing", False)),
        "quantizing": bool(getattr(quantizer, "quantizing", False)),
    }


def _grid(quantizer: Float32State) -> str:
    """The grid of a quantizer in words; of one that rounds nothing, ``float``."""
    scheme = getattr(quantizer, "scheme", None)
    return f"{scheme.format.name} {scheme}" if scheme else "float"


def _batch_norm(model: nn.Module, name: str) -> BatchNorm:
    norm = model.get_submodule(name)
    assert isinstance(norm, BatchNorm)
    return norm


def is_prepared(model: nn.Module) -> bool:
    """Whether the model has quantizable twins."""
    return any(isinstance(module, QuantizedLayer) for module in model.modules())
