"""What the precision plugins share: the device, refusals, the report, the checkpoint entry."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, Strategy
from lightning.pytorch.strategies.single_xla import SingleDeviceXLAStrategy
from lightning.pytorch.strategies.xla import XLAStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim import Optimizer

from bitladder.errors import UserError
from bitladder.precision.origin import CHECKPOINT_KEY, precisions_of

_OWN_PLUGIN_ONLY = (FSDPStrategy, DeepSpeedStrategy, XLAStrategy, SingleDeviceXLAStrategy)

_CPU_FLAGS = {
    torch.float16: ("avx512_fp16", "amx_fp16"),
    torch.bfloat16: ("avx512_bf16", "amx_bf16"),
}


class LadderPrecision(Precision):
    """Base of the precision plugins: what was asked for is what runs, or the run is refused.

    A plugin is passed as `Trainer(plugins=[Fp16Precision()])`. It learns its device from the
    Trainer's strategy when a run (fit, validate, test or predict) begins; `attach` says it earlier.

    Args:
        allow_precision_change: let a fit go on from a checkpoint that another precision trained.
            Its weights and optimizer state are converted, its loss scale is dropped. Evaluating a
            checkpoint needs no leave: the weights are rounded to what this precision computes with.
    """

    requested: ClassVar[str]
    """The name of the precision in a configuration."""

    parameter_dtype: ClassVar[torch.dtype] = torch.float32
    autocast_dtype: ClassVar[torch.dtype | None] = None
    """The type that `torch.autocast` computes in, or None for no autocast."""

    def __init__(self, *, allow_precision_change: bool = False) -> None:
        self.allow_precision_change = allow_precision_change
        self._device: torch.device | None = None
        self._fitting = False
        # Undoes at teardown what a run changed outside the plugin.
        self._run = ExitStack()

    @property
    def device(self) -> torch.device:
        """The device that the run is on; only after `attach`."""
        assert self._device is not None, "the plugin is not attached to a device yet"
        return self._device

    def attach(self, device: torch.device) -> None:
        """Take `device` as the one to run on. Changes nothing else, and may be repeated.

        Raises:
            UserError: this precision cannot run on that device.
        """
        if device.type not in ("cpu", "cuda"):
            raise UserError(
                f"precision={self.requested} runs on cpu and cuda, but the trainer's device is "
                f"{device.type}; write trainer=cpu"
            )
        self.check_device(device)
        self._device = device

    def check_device(self, device: torch.device) -> None:
        """Raise UserError if the precision cannot run on `device` (a cpu or cuda device)."""

    def check_strategy(self, kind: type[Strategy]) -> None:
        """Raise UserError if the precision cannot train with strategies of this kind."""
        if issubclass(kind, _OWN_PLUGIN_ONLY):
            raise UserError(
                f"precision={self.requested} does not work with Lightning's {kind.__name__}, which "
                "takes only a precision plugin of its own; write trainer.strategy=ddp"
            )

    def check_optimizer(self, kind: type[Optimizer]) -> None:
        """Raise UserError if the precision cannot train with optimizers of this kind."""

    def effective(self) -> dict[str, str | float | bool]:
        """What really runs, in plain JSON types; the device is "unknown" before `attach`."""
        facts: dict[str, str | float | bool] = {
            "name": self.requested,
            "device": "unknown" if self._device is None else self._device.type,
            "parameters": dtype_name(self.parameter_dtype),
            "compute": dtype_name(self.autocast_dtype or self.parameter_dtype),
            "autocast": self.autocast_dtype is not None,
        }
        if self._device is not None and self._device.type == "cpu":
            flags = _CPU_FLAGS.get(self.autocast_dtype or self.parameter_dtype, ())
            capabilities = torch.cpu.get_capabilities()
            if flags and capabilities.get("architecture") == "x86_64":
                facts["native_instructions"] = any(capabilities.get(flag) for flag in flags)
        return facts

    def report(self) -> dict[str, Any] | None:
        """What ran in which format, layer by layer, in plain JSON types, once a fit is over.

        Its `summary` is one line for the terminal. None where `effective` has said everything.
        """
        return None

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Attach to the run that begins, and check what the module brings."""
        self.begin(module)
        for name, parameter in module.named_parameters():
            if (
                parameter.requires_grad
                and parameter.is_floating_point()
                and parameter.dtype != self.parameter_dtype
            ):
                raise UserError(
                    f"precision={self.requested} trains {dtype_name(self.parameter_dtype)} "
                    f"parameters, but {name} is {dtype_name(parameter.dtype)}; convert the model "
                    f"with model.to({self.parameter_dtype}) before the run"
                )
        return module

    def begin(self, module: nn.Module) -> LightningModule:
        """Attach to the device of the run that begins with `module`."""
        assert isinstance(module, LightningModule)
        self.check_strategy(type(module.trainer.strategy))
        self.attach(module.trainer.strategy.root_device)
        self._fitting = module.trainer.state.fn == TrainerFn.FITTING
        return module

    def connect(
        self, model: nn.Module, optimizers: list[Optimizer], lr_schedulers: list[Any]
    ) -> tuple[nn.Module, list[Optimizer], list[Any]]:
        """See the optimizers of the run."""
        for optimizer in optimizers:
            self.check_optimizer(type(optimizer))
        return model, optimizers, lr_schedulers

    def forward_context(self) -> AbstractContextManager[Any]:
        """Autocast around the forward pass and the loss, if this precision computes so."""
        if self.autocast_dtype is None:
            return nullcontext()
        # No cache of casted weights: one filled under no_grad would be used, without gradient, by
        # a later forward pass with gradients.
        return torch.autocast(self.device.type, dtype=self.autocast_dtype, cache_enabled=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note in the checkpoint which precision trained it."""
        checkpoint[CHECKPOINT_KEY] = {"requested": self.requested}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on training where another precision stopped."""
        if self._fitting:
            self.check_checkpoint(checkpoint)

    def check_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint to go on from that another precision trained, unless that is allowed.

        Raises:
            UserError: says which precision trained it, as far as the checkpoint tells.
        """
        possible = precisions_of(checkpoint)
        if possible and self.requested not in possible and not self.allow_precision_change:
            raise UserError(
                f"precision={self.requested}: the checkpoint was trained in "
                f"{' or '.join(possible)}; train on in that, or write "
                f"precision.allow_precision_change=true to go on in {self.requested}"
            )

    def teardown(self) -> None:
        """Undo at the end of a run what it changed outside the plugin."""
        self._run.close()


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.float16` is called "float16"."""
    return str(dtype).removeprefix("torch.")


def require_capability(
    device: torch.device, needed: tuple[int, int], precision: str, instead: str
) -> None:
    """Refuse a CUDA device whose compute capability is below `needed`.

    Raises:
        UserError: names what the device has and which precision to write instead.
    """
    found = torch.cuda.get_device_capability(device)
    if found < needed:
        raise UserError(
            f"precision={precision} needs CUDA compute capability {needed[0]}.{needed[1]}, but "
            f"{torch.cuda.get_device_name(device)} has {found[0]}.{found[1]}; "
            f"write precision={instead}"
        )
