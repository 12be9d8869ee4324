"""bf16_true: parameters, inputs and arithmetic in bfloat16."""

from typing import Any

import torch
from lightning import LightningModule
from lightning_utilities import apply_to_collection
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitladder.precision.base import LadderPrecision, require_capability


class Bf16TruePrecision(LadderPrecision):
    """Bfloat16 parameters, inputs and arithmetic: half the memory of float32, without autocast.

    Floating tensors of a batch become bfloat16, targets too if they are floating. What needs more
    than 8 significant bits stays float32:

    - BatchNorm layers (weight, bias and running statistics), which take and give bfloat16: running
      averages kept in bfloat16 would stop moving;
    - states of torchmetrics' metrics;
    - buffers of modules whose own `_apply` keeps them (the fake-quantizers do);
    - tensors that a module creates as it runs: the default dtype is left alone, so that a
      module which mixes them with bfloat16 in a matrix product fails instead of losing bits.
    """

    requested = "bf16_true"
    precision = "bf16-true"
    parameter_dtype = torch.bfloat16

    def check_device(self, device: torch.device) -> None:
        """Refuse GPUs that would only emulate bfloat16."""
        if device.type == "cuda":
            require_capability(device, (8, 0), precision=self.requested, instead="fp32")

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Attach to the run, and round the module to bfloat16, in place."""
        assert isinstance(module, LightningModule)
        self.attach(module.trainer.strategy.root_device)
        norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
        states = [{k: v.clone() for k, v in norm.state_dict().items()} for norm in norms]
        # Not `.to(torch.bfloat16)`: metrics keep their states float32 in this spelling alone.
        module.bfloat16()
        # Lightning's `dtype` property follows `.to()`, but not `.bfloat16()`.
        module._dtype = torch.bfloat16
        for norm, state in zip(norms, states, strict=True):
            norm.float().load_state_dict(state)
        return module

    def convert_input(self, data: Any) -> Any:
        """The batch with its floating tensors in bfloat16."""
        return apply_to_collection(data, Tensor, _to_bfloat16)

    def effective(self) -> dict[str, str | float | bool]:
        """What really runs: everything in bfloat16, BatchNorm in float32."""
        return super().effective() | {"batchnorm": "float32"}


def _to_bfloat16(tensor: Tensor) -> Tensor:
    return tensor.bfloat16() if tensor.is_floating_point() else tensor
