"""Stochastic rounding: updates too small for bfloat16 arrive on average."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from bitladder.errors import UserError

NOISE_BITS = 16
"""The bits of a float32 that bfloat16 does not have."""


def round_stochastically(x: Tensor, noise: Tensor) -> Tensor:
    """Round to one of the two bfloat16 neighbours, to the nearer one with the greater probability.

    Over evenly distributed noise the mean is `x`, exactly, as long as neither neighbour is
    infinite (Gupta et al., "Deep Learning with Limited Numerical Precision", arXiv:1502.02551). A
    value that bfloat16 has, infinity and NaN included, stays as it is. Not torchao's function of
    this kind, in which a NaN whose bits are all set, CUDA's own, becomes zero.

    Args:
        x: float32, any shape.
        noise: int32 in [0, 2**16), of the shape of `x`.

    Returns:
        bfloat16, of the shape of `x`.
    """
    # Magnitudes are ordered like their bit patterns: what noise carries over is the next one up.
    bits = (x.view(torch.int32) + noise) >> NOISE_BITS << NOISE_BITS
    return torch.where(x.isfinite(), bits.view(torch.float32), x).bfloat16()


class StochasticRounding:
    """Lets optimizers step in float32, and rounds what they did to bfloat16 parameters at random.

    Works with any optimizer that keeps its state by parameter. While it steps it sees float32
    copies of its bfloat16 parameters and of their gradients; its state is float32, in checkpoints
    too. The noise is drawn from the seed and the number of the step, so it does not depend on other
    random numbers: a resumed run rounds as the uninterrupted one, and all ranks of a data-parallel
    run alike.

    Args:
        device: Where the parameters are.
        seed: Fixes the noise; the same on all ranks.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self._generator = torch.Generator(device)
        self._seed = seed
        self._steps = 0

    def attach(self, optimizer: Optimizer) -> Callable[[], None]:
        """Round the steps of `optimizer` from now on.

        Returns:
            A function that ends it.
        """
        for state in optimizer.state.values():  # of optimizers that make it at once
            for key, value in state.items():
                if isinstance(value, Tensor) and value.dtype == torch.bfloat16:
                    state[key] = value.float()
        widened = _Widened(optimizer)

        def before_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: Any) -> None:
            if len(args) > 1 or kwargs.get("closure") is not None:
                raise UserError(
                    "precision.stochastic_rounding=true: the optimizer was given a closure, whose "
                    "gradients would come too late to be widened; call optimizer.step() without"
                )
            widened.enter()

        def after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: Any) -> None:
            self._round(widened.leave())

        # Loading casts the state to the type of the parameters, which then must be float32, too.
        def before_load(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
            widened.enter(every=True)

        def after_load(optimizer: Optimizer) -> None:
            widened.leave()

        hooks = ExitStack()
        for handle in (
            optimizer.register_step_pre_hook(before_step),
            optimizer.register_step_post_hook(after_step),
            optimizer.register_load_state_dict_pre_hook(before_load),
            optimizer.register_load_state_dict_post_hook(after_load),
        ):
            hooks.callback(handle.remove)
        return hooks.close

    def state_dict(self) -> dict[str, int]:
        """The seed, and how many steps have been rounded."""
        return {"seed": self._seed, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where `state_dict` was taken."""
        self._seed, self._steps = state_dict["seed"], state_dict["steps"]

    @torch.no_grad()
    def _round(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        (seed,) = np.random.SeedSequence([self._seed, self._steps]).generate_state(1).tolist()
        self._generator.manual_seed(seed)
        self._steps += 1
        for parameter, wide in pairs:
            noise = torch.randint(
                1 << NOISE_BITS,
                wide.shape,
                generator=self._generator,
                device=wide.device,
                dtype=torch.int32,
            )
            parameter.copy_(round_stochastically(wide, noise))


class _Widened:
    """Puts float32 copies into an optimizer in the place of its bfloat16 parameters, and back.

    The parameters themselves are left alone: their type is known to what DistributedDataParallel
    has hooked to them.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def enter(self, every: bool = False) -> None:
        """Put the copies in, of the parameters with gradients or of every one."""
        assert not self._pairs
        for group in self._optimizer.param_groups:
            group["params"] = [
                self._widen(p) if every or p.grad is not None else p for p in group["params"]
            ]

    def leave(self) -> list[tuple[Tensor, Tensor]]:
        """Put the parameters back.

        Returns:
            The parameters and their copies.
        """
        pairs, self._pairs = self._pairs, []
        originals = {id(wide): parameter for parameter, wide in pairs}
        for group in self._optimizer.param_groups:
            group["params"] = [originals.get(id(p), p) for p in group["params"]]
        for parameter, wide in pairs:
            self._move_state(wide, parameter)
        return pairs

    def _widen(self, parameter: Tensor) -> Tensor:
        if parameter.dtype != torch.bfloat16:
            return parameter
        wide = parameter.detach().float()
        wide.grad = None if parameter.grad is None else parameter.grad.float()
        self._move_state(parameter, wide)
        self._pairs.append((parameter, wide))
        return wide

    def _move_state(self, source: Tensor, target: Tensor) -> None:
        if source in self._optimizer.state:
            self._optimizer.state[target] = self._optimizer.state.pop(source)
