"""How training computes: one Lightning precision plugin a file, and the loss scaler."""

from bitladder.precision.base import LadderPrecision
from bitladder.precision.bf16 import Bf16Precision
from bitladder.precision.bf16_true import Bf16TruePrecision
from bitladder.precision.fp8 import Fp8Precision, convert_to_fp8
from bitladder.precision.fp16 import Fp16Precision
from bitladder.precision.fp32 import Fp32Precision
from bitladder.precision.tf32 import Tf32Precision

__all__ = [
    "Bf16Precision",
    "Bf16TruePrecision",
    "Fp8Precision",
    "Fp16Precision",
    "Fp32Precision",
    "LadderPrecision",
    "Tf32Precision",
    "convert_to_fp8",
]
