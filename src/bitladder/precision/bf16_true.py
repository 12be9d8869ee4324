"""bf16_true: parameters, inputs and arithmetic in bfloat16."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.fabric.utilities.types import Steppable
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning_utilities import apply_to_collection
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import LBFGS, Optimizer

from bitladder.errors import UserError
from bitladder.patterns import matches, require_matches
from bitladder.precision.base import LadderPrecision, require_capability
from bitladder.precision.origin import CHECKPOINT_KEY
from bitladder.precision.stochastic_rounding import StochasticRounding


class Bf16TruePrecision(LadderPrecision):
    """Bfloat16 parameters, inputs and arithmetic: half the memory of float32, without autocast.

    Floating tensors of a batch become bfloat16, targets too if they are floating. What needs more
    than 8 significant bits stays float32:

    - the loss, which the module computes: one in bfloat16 is refused at its backward pass;
    - BatchNorm layers (weight, bias and running statistics), which take and give bfloat16: running
      averages kept in bfloat16 would stop moving;
    - buffers named in `keep_fp32`, and those of modules whose own `_apply` keeps them (the
      fake-quantizers do);
    - states of torchmetrics' metrics;
    - tensors that a module creates as it runs: the default dtype is left alone, so that a
      module which mixes them with bfloat16 in a matrix product fails instead of losing bits.

    An update below half of a parameter's last bit is lost when it is rounded to the nearest
    bfloat16: 1000 steps of 0.001 leave a 1.0 where it was. With `stochastic_rounding` it is rounded
    up or down at random, and arrives on average. The optimizer, any but LBFGS, then computes and
    keeps its state in float32, and while it steps, its parameters and gradients are there in
    float32 as well. torchao's `_AdamW(bf16_stochastic_round=True)` rounds its parameters on its own
    and keeps its state in bfloat16, where second moments stall: less memory, and steps that come
    out too large (20% in the test). To use it, leave `stochastic_rounding` off.

    Args:
        stochastic_rounding: round parameters stochastically after every optimizer step.
        keep_fp32: name patterns (`fnmatch`) of floating buffers that stay float32.
        allow_precision_change: as for every precision.
    """

    requested = "bf16_true"
    precision = "bf16-true"
    parameter_dtype = torch.bfloat16

    def __init__(
        self,
        *,
        stochastic_rounding: bool = False,
        keep_fp32: Sequence[str] = (),
        allow_precision_change: bool = False,
    ) -> None:
        super().__init__(allow_precision_change=allow_precision_change)
        self.stochastic_rounding = stochastic_rounding
        self.keep_fp32 = tuple(keep_fp32)
        self._rounding: StochasticRounding | None = None
        self._module: LightningModule | None = None

    def check_device(self, device: torch.device) -> None:
        """Refuse GPUs that would only emulate bfloat16."""
        if device.type == "cuda":
            require_capability(device, (8, 0), precision=self.requested, instead="fp32")

    def check_strategy(self, kind: type[Strategy]) -> None:
        """Refuse to round shards stochastically."""
        super().check_strategy(kind)
        if self.stochastic_rounding and issubclass(kind, ModelParallelStrategy):
            raise UserError(
                "precision.stochastic_rounding=true does not work with the model-parallel "
                "strategy, whose parameters are shards; write precision.stochastic_rounding=false"
            )

    def check_optimizer(self, kind: type[Optimizer]) -> None:
        """Refuse to round stochastically what LBFGS does."""
        if self.stochastic_rounding and issubclass(kind, LBFGS):
            raise UserError(
                "precision.stochastic_rounding=true does not work with the LBFGS optimizer, "
                "which keeps one state for all parameters; write optimizer=adamw"
            )

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Attach to the run, and round the module to bfloat16, in place.

        Raises:
            UserError: A pattern in `keep_fp32` matches no floating buffer.
        """
        self._module = module = self.begin(module)
        kept = [(owner, name, owner._buffers[name]) for owner, name in self._kept_buffers(module)]
        norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
        states = [{k: v.clone() for k, v in norm.state_dict().items()} for norm in norms]
        # Not `.to(torch.bfloat16)`: metrics keep their states float32 in this spelling alone.
        module.bfloat16()
        # Lightning's `dtype` property follows `.to()`, but not `.bfloat16()`.
        module._dtype = torch.bfloat16
        for norm, state in zip(norms, states, strict=True):
            norm.float().load_state_dict(state)
        for owner, name, buffer in kept:
            assert buffer is not None
            owner._buffers[name] = buffer.float()
        return module

    def _kept_buffers(self, module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
        """The owner and name of every buffer that a pattern names."""
        names = [name for name, x in module.named_buffers() if x.is_floating_point()]
        require_matches("precision.keep_fp32", self.keep_fp32, names, "floating buffer")
        for name in names:
            if matches(name, self.keep_fp32):
                owner, _, own_name = name.rpartition(".")
                yield module.get_submodule(owner), own_name

    def convert_input(self, data: Any) -> Any:
        """The batch with its floating tensors in bfloat16."""
        return apply_to_collection(data, Tensor, _to_bfloat16)

    def connect(
        self, model: nn.Module, optimizers: list[Optimizer], lr_schedulers: list[Any]
    ) -> tuple[nn.Module, list[Optimizer], list[Any]]:
        """Round what the optimizers of a fit do stochastically, if that was asked for."""
        super().connect(model, optimizers, lr_schedulers)
        if self.stochastic_rounding and self._fitting:
            assert self._module is not None
            seed = self._module.trainer.strategy.broadcast(torch.initial_seed() % 2**63)
            self._rounding = StochasticRounding(self.device, seed)
            for optimizer in optimizers:
                self._run.callback(self._rounding.attach(optimizer))
        return model, optimizers, lr_schedulers

    def pre_backward(self, tensor: Tensor, module: LightningModule) -> Tensor:
        """Refuse a loss of 8 significant bits."""
        if tensor.dtype == torch.bfloat16:
            raise UserError(
                "precision=bf16_true: the loss is bfloat16; compute it in float32, of "
                "logits.float()"
            )
        return super().pre_backward(tensor, module)

    def optimizer_step(
        self,
        optimizer: Steppable,
        model: LightningModule,
        closure: Callable[[], Any],
        **kwargs: Any,
    ) -> Any:
        """Step; if rounding stochastically, with the closure before the step, not inside it."""
        if self._rounding is None:
            return super().optimizer_step(optimizer, model, closure, **kwargs)
        result = self._wrap_closure(model, optimizer, closure)
        optimizer.step(**kwargs)
        return result

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put into the checkpoint how far the rounding's noise has come."""
        super().on_save_checkpoint(checkpoint)
        if self._rounding is not None:
            checkpoint[CHECKPOINT_KEY]["rounding"] = self._rounding.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume a fit with the noise that the uninterrupted one would draw."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint.get(CHECKPOINT_KEY, {}).get("rounding")
        if self._fitting and self._rounding is not None and state:
            self._rounding.load_state_dict(state)

    def effective(self) -> dict[str, str | float | bool]:
        """What really runs: bfloat16, BatchNorm in float32, and how parameters are rounded."""
        rounding = "stochastic" if self.stochastic_rounding else "nearest"
        return super().effective() | {"batchnorm": "float32", "rounding": rounding}


def _to_bfloat16(tensor: Tensor) -> Tensor:
    return tensor.bfloat16() if tensor.is_floating_point() else tensor
