"""Observers: each watches a tensor and proposes the range of its grid."""

from bitladder.quantization.observers.base import Observer
from bitladder.quantization.observers.histogram import HistogramObserver
from bitladder.quantization.observers.minmax import MinMaxObserver
from bitladder.quantization.observers.moving_average import MovingAverageObserver

__all__ = ["HistogramObserver", "MinMaxObserver", "MovingAverageObserver", "Observer"]
