"""The forms of the JSON files of a run: read with a check, and published as JSON Schema."""

from bitladder.runs.documents.evaluation import Evaluation
from bitladder.runs.documents.histograms import HistogramsRecord
from bitladder.runs.documents.manifest import Manifest
from bitladder.runs.documents.precision import PrecisionRecord
from bitladder.runs.documents.quantization import QuantizationRecord

__all__ = ["Evaluation", "HistogramsRecord", "Manifest", "PrecisionRecord", "QuantizationRecord"]
