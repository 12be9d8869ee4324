"""fp8: bf16 as in `Bf16Precision`, with the products of the linears in fp8 while training."""

import warnings
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, get_args

import torch
import torch._dynamo
from lightning import LightningModule
from lightning.pytorch.strategies import Strategy
from torch import nn

from bitladder.errors import UserError
from bitladder.precision.base import CHECKPOINT_KEY, LadderPrecision, require_capability
from bitladder.precision.fp8.auto import measure, settle
from bitladder.precision.fp8.convert import Policy, convert_to_fp8, release_fp8
from bitladder.precision.fp8.linear import Fp8Linear, fp8_linears
from bitladder.precision.fp8.report import LinearRecord
from bitladder.precision.fp8.upstream import Recipe, gradient_format

CAPABILITY = (8, 9)
"""The first compute capability with fp8 units (Ada); torch has kernels of all recipes for it."""


class Fp8Precision(LadderPrecision):
    """Float32 parameters, bfloat16 autocast, and the products of the linears in fp8.

    During a fit, and only then, the linears of the whole model become
    :class:`~bitladder.precision.fp8.linear.Fp8Linear`, in place; parameter names stay, so that
    checkpoints fit the plain model and the other way round. Kept in bf16, and named with the reason
    in `report`: the first and the last layer, sizes not divisible by 16, subclasses of
    `nn.Linear`, and what `skip` names. Validation, test and prediction compute in bf16.

    Under FSDP2 (`ModelParallelStrategy`) call :func:`bitladder.convert_to_fp8` in
    `configure_model`, before `fully_shard`.

    Args:
        recipe: `tensorwise` (e4m3 forward, e5m2 gradients, one scale a tensor: the fastest),
            `rowwise` (e4m3, one scale a row) or `rowwise_with_gw_hp` (the same, weight gradients in
            bf16: the most accurate).
        skip: Name patterns (`fnmatch`) of linears to keep in bf16.
        keep_ends: Keep the first and the last layer of the model in bf16.
        layers: `all` linears that can, or `auto`: the first training step runs in bf16, then every
            shape of linear that it called is timed once on the device, and bf16 is kept where fp8
            is not faster. A resumed fit keeps what was decided.
        emulate: Round to fp8 but multiply in float32: the same numbers without fp8 units, slowly.
            `auto` does so where the device has no fp8 units; `effective` says what it came to.
        allow_precision_change: See :class:`LadderPrecision`.

    Raises:
        UserError: an argument cannot be; when a fit begins: a pattern matches no linear, or the
            model is sharded already.
    """

    requested = "fp8"
    precision = "bf16-mixed"
    autocast_dtype = torch.bfloat16

    def __init__(
        self,
        *,
        recipe: Recipe = "tensorwise",
        skip: Sequence[str] = (),
        keep_ends: bool = True,
        layers: Policy = "all",
        emulate: bool | Literal["auto"] = False,
        allow_precision_change: bool = False,
    ) -> None:
        super().__init__(allow_precision_change=allow_precision_change)
        for name, value, choices in (("recipe", recipe, Recipe), ("layers", layers, Policy)):
            if value not in get_args(choices):
                raise UserError(
                    f"precision.{name}={value}: write one of {', '.join(get_args(choices))}"
                )
        self.recipe: Recipe = recipe
        self.skip = tuple(skip)
        self.keep_ends = keep_ends
        self.layers: Policy = layers
        if isinstance(emulate, str) and emulate != "auto":
            raise UserError(f"precision.emulate={emulate}: write true, false or auto")
        self.emulate = emulate is True
        self._emulate_if_needed = emulate == "auto"
        self.records: list[LinearRecord] = []
        """Every linear of the model; known from the beginning of a fit on."""
        self._strategy: Strategy | None = None
        # Under layers=auto until it is settled which layers run in fp8.
        self._watched: list[Fp8Linear] = []
        self._stepped = False

    def check_device(self, device: torch.device) -> None:
        """Refuse devices without fp8 units, unless fp8 is emulated."""
        if self._emulate_if_needed:
            has_units = (
                device.type == "cuda" and torch.cuda.get_device_capability(device) >= CAPABILITY
            )
            self.emulate = not has_units
        if self.emulate:
            return
        if device.type == "cpu":
            raise UserError(
                "precision=fp8 needs an NVIDIA GPU of compute capability "
                f"{CAPABILITY[0]}.{CAPABILITY[1]}, but the trainer runs on the CPU; write "
                "precision.emulate=true (the same numbers, slowly), or precision=bf16"
            )
        require_capability(
            device,
            CAPABILITY,
            precision=self.requested,
            instead="bf16, or precision.emulate=true (the same numbers, slowly)",
        )

    def effective(self) -> dict[str, str | float | bool]:
        """What really runs; how many linears did is counted in a fit, `report` names them."""
        return super().effective() | {
            "linears": "float8_e4m3fn",
            "linear_gradients": gradient_format(self.recipe),
            "recipe": self.recipe,
            "layers": self.layers,
            "emulated": self.emulate,
            "linears_executed": sum(record.executed for record in self.records),
        }

    def report(self) -> dict[str, Any] | None:
        """Which linears were computed in fp8 in the latest fit, and why the others were not."""
        executed = sum(record.executed for record in self.records)
        return {
            "summary": f"fp8: {executed} of {len(self.records)} linears ran in fp8",
            "recipe": self.recipe,
            "layers": self.layers,
            "emulated": self.emulate,
            "linears": [record.to_json() for record in self.records],
        }

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Attach to the run that begins; convert the linears if it is a fit."""
        module = super().convert_module(module)
        assert isinstance(module, LightningModule)
        if not self._fitting:
            return module
        if not fp8_linears(module):  # else configure_model has converted, for good
            self._run.callback(release_fp8, module)
        self.records = convert_to_fp8(
            module,
            recipe=self.recipe,
            skip=self.skip,
            keep_ends=self.keep_ends,
            layers=self.layers,
            emulate=self.emulate,
        )
        self._strategy = module.trainer.strategy
        self._watched = [x for x in fp8_linears(module).values() if x.fp8_mode == "watch"]
        self._stepped = False
        self._run.enter_context(_compiling())
        return module

    @contextmanager
    def train_step_context(self) -> Generator[None, None, None]:
        """Autocast around the training step; between the first and the second, settle `auto`."""
        if self._watched and self._stepped:
            self._settle()
        with self.forward_context():
            yield
        self._stepped = True

    def _settle(self) -> None:
        assert self._strategy is not None
        # One rank's times for all: ranks that disagreed would not train the same model.
        times = self._strategy.broadcast(measure(self._watched))
        settle(self._watched, times)
        if all(record.kept for record in self.records):
            warnings.warn(
                "precision.layers=auto: fp8 is faster for no linear of this model, so all of it "
                "computes in bf16",
                stacklevel=2,
            )
        self._watched = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note which linears have run in fp8, and which layers `auto` has chosen."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["executed"] = [x.name for x in self.records if x.executed]
        if self.layers == "auto" and not self._watched:
            checkpoint[CHECKPOINT_KEY]["times"] = {
                record.name: [record.bf16_ms, record.fp8_ms]
                for record in self.records
                if record.bf16_ms is not None
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on in a resumed fit with the layers that `auto` had chosen."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint.get(CHECKPOINT_KEY, {})
        if self._fitting:
            # A fit that is resumed at its end runs none of them any more.
            for record in self.records:
                record.executed |= record.name in state.get("executed", ())
        times = state.get("times")
        if self._watched and times:
            settle(self._watched, {name: (bf16, fp8) for name, (bf16, fp8) in times.items()})
            self._watched = []


def _compiling() -> AbstractContextManager[None]:
    """What torch.compile needs to know of fp8 linears, where the user compiles the model.

    They note that they ran, at which it would break its graph under activation checkpointing; and
    where blocks are compiled one by one, it meets several kinds of them in one function: kept ones,
    watched ones, in training and in evaluation.
    """
    return torch._dynamo.config.patch(
        skip_fwd_side_effects_in_bwd_under_checkpoint=True,
        recompile_limit=max(torch._dynamo.config.recompile_limit, 32),
    )
