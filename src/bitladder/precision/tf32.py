"""tf32: float32 storage, matrix products and convolutions on NVIDIA's TF32 tensor cores."""

import torch

from bitladder.errors import UserError
from bitladder.precision.base import require_capability
from bitladder.precision.fp32 import Fp32Precision


class Tf32Precision(Fp32Precision):
    """Float32 parameters; products take inputs rounded to 10 fraction bits and add in float32.

    TF32 is arithmetic of NVIDIA GPUs from compute capability 8.0 (Ampere) on; elsewhere PyTorch
    would compute in float32 without a word, so the run is refused.
    """

    requested = "tf32"
    tf32 = True

    def check_device(self, device: torch.device) -> None:
        """Refuse CPUs and GPUs without TF32."""
        if device.type == "cpu":
            raise UserError(
                "precision=tf32 needs an NVIDIA GPU, but the trainer runs on the CPU, where "
                "float32 is computed in full; write precision=fp32"
            )
        require_capability(device, (8, 0), precision=self.requested, instead="fp32")

    def effective(self) -> dict[str, str | float | bool]:
        """What really runs: TF32 products and convolutions, float32 for the rest."""
        return super().effective() | {"compute": "tf32"}
