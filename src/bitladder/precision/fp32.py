"""fp32: IEEE single precision everywhere, TF32 switched off."""

import torch
from torch import nn

from bitladder.precision.base import LadderPrecision


class Fp32Precision(LadderPrecision):
    """Float32 parameters and float32 arithmetic.

    PyTorch lets cuDNN convolve in TF32 by default; for the time of the run neither convolutions nor
    matrix products may. What the process had set comes back when the run ends.
    """

    requested = "fp32"
    precision = "32-true"
    tf32 = False

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Attach to the run, and set the precision of float32 arithmetic until `teardown`."""
        module = super().convert_module(module)
        # The older of PyTorch's two interfaces: Lightning and Inductor read it, and it raises once
        # the newer one (`fp32_precision`) has been written to.
        self._run.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        self._run.callback(
            setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32
        )
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32
        return module
