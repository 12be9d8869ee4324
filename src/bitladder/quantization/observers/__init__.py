"""Observers: each watches a tensor and proposes the range of its grid."""

from bitladder.quantization.observers.base import Observer
from bitladder.quantization.observers.entropy import EntropyObserver
from bitladder.quantization.observers.histogram import HistogramObserver
from bitladder.quantization.observers.minmax import MinMaxObserver
from bitladder.quantization.observers.moving_average import MovingAverageObserver
from bitladder.quantization.observers.mse import MSEObserver
from bitladder.quantization.observers.percentile import PercentileObserver

__all__ = [
    "EntropyObserver",
    "HistogramObserver",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
]
