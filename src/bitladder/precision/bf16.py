"""bf16: float32 parameters, bfloat16 autocast."""

import torch

from bitladder.precision.base import LadderPrecision, require_capability


class Bf16Precision(LadderPrecision):
    """Float32 parameters; forward pass and loss under `torch.autocast` in bfloat16.

    bfloat16 has float32's exponent, so gradients do not underflow and no loss scaler is needed.
    """

    requested = "bf16"
    precision = "bf16-mixed"
    autocast_dtype = torch.bfloat16

    def check_device(self, device: torch.device) -> None:
        """Refuse GPUs that would only emulate bfloat16."""
        if device.type == "cuda":
            require_capability(device, (8, 0), precision=self.requested, instead="fp16")
