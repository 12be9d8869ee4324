"""Quantization without Lightning: prepare, calibrate or train, convert, export.

>>> plans = prepare(model, Recipe(method="ptq"), example_args=(x,))  # doctest: +SKIP
>>> calibrate(model, batches)  # doctest: +SKIP
>>> export(convert(model), x, "model_int8.pt2")  # doctest: +SKIP
"""

from bitladder.quantization.calibrate import calibrate
from bitladder.quantization.choice import Activations, Weights
from bitladder.quantization.convert import convert, float_copy
from bitladder.quantization.deploy import Deployment, deploy, export
from bitladder.quantization.observers import (
    EntropyObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
)
from bitladder.quantization.prepare import (
    LayerPlan,
    join_ranks,
    link_batch_norms,
    plan,
    prepare,
    quantized_layers,
    set_observing,
    set_quantizing,
    train_quantizers,
)
from bitladder.quantization.ranks import average_batch_norms
from bitladder.quantization.recipe import Recipe
from bitladder.quantization.schedule import Schedule
from bitladder.quantization.scheme import ACTIVATION, WEIGHT, Scheme
from bitladder.quantization.state_dict import load_quantization_state, quantization_state
from bitladder.quantization.watch import Call, watch

__all__ = [
    "ACTIVATION",
    "WEIGHT",
    "Activations",
    "Call",
    "Deployment",
    "EntropyObserver",
    "HistogramObserver",
    "LayerPlan",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
    "Recipe",
    "Schedule",
    "Scheme",
    "Weights",
    "average_batch_norms",
    "calibrate",
    "convert",
    "deploy",
    "export",
    "float_copy",
    "join_ranks",
    "link_batch_norms",
    "load_quantization_state",
    "plan",
    "prepare",
    "quantization_state",
    "quantized_layers",
    "set_observing",
    "set_quantizing",
    "train_quantizers",
    "watch",
]
