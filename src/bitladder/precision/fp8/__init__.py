"""fp8 training: the plugin, and the conversion for models that shard themselves."""

from bitladder.precision.fp8.convert import convert_to_fp8, release_fp8
from bitladder.precision.fp8.plugin import Fp8Precision

__all__ = ["Fp8Precision", "convert_to_fp8", "release_fp8"]
