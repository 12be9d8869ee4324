"""Ranges that must be known before anything is rounded with them."""

from torch import nn

from bitladder.errors import RunError
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.prepare import quantized_layers


def require_ranges(model: nn.Module) -> None:
    """Refuse to go on without a range for every weight and every input.

    Raises:
        RunError: If an observer never saw data, as that of a layer in a branch that no batch takes,
            or saw NaN or infinity; names all such layers of the first kind, or the first of the
            second.
    """
    unseen: dict[str, str] = {}
    for layer_name, layer in quantized_layers(model).items():
        name = layer_name or "the model"
        observed = {f"{name}.weight": layer.weight_quantize}
        if isinstance(layer.input_quantize, FakeQuantize):
            observed[f"the input of {name}"] = layer.input_quantize
        for what, quantizer in observed.items():
            if not quantizer.observer.saw_data:
                unseen.setdefault(layer_name, what)
            else:
                quantizer.require_range(what)
    if unseen:
        observers = "observers" if len(unseen) > 1 else "observer"
        raise RunError(
            f"the {observers} of {', '.join(unseen.values())} never saw data: no batch reached"
            f" them; leave them in float with quantization.skip=[{','.join(unseen)}], or calibrate"
            " with data that takes every branch"
        )
