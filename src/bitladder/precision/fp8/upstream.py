"""What is used of torchao, imported without the noise that it makes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, get_args

from torch import nn

from bitladder.errors import UserError

Recipe = Literal["tensorwise", "rowwise", "rowwise_with_gw_hp"]
"""How scales are chosen; torchao's names."""


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let only errors of these loggers through."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


# torchao warns that its C++ extensions do not load (training uses none), and torch that torchao
# registers an enum in an old way.
with _quiet("torchao", "torch.utils._pytree"):
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    from torchao.float8.float8_linear import Float8Linear

__all__ = [
    "Float8Linear",
    "Float8LinearConfig",
    "Recipe",
    "convert_to_float8_training",
    "float8_template",
    "gradient_format",
]


def float8_template(recipe: Recipe, *, emulate: bool) -> Float8Linear:
    """A linear as torchao converts it: where the settings of ours come from.

    torchao's converter also mends code generation of Inductor that would miscompile fp8 kernels.

    Raises:
        UserError: there is no such recipe.
    """
    if recipe not in get_args(Recipe):
        raise UserError(f"precision.recipe={recipe}: write one of {', '.join(get_args(Recipe))}")
    config = replace(Float8LinearConfig.from_recipe_name(recipe), emulate=emulate)
    converted = convert_to_float8_training(nn.Linear(16, 16, device="meta"), config=config)
    assert isinstance(converted, Float8Linear)
    return converted


def gradient_format(recipe: Recipe) -> str:
    """What gradients of a linear's output are rounded to; inputs and weights are e4m3 always."""
    return "float8_e5m2" if recipe == "tensorwise" else "float8_e4m3fn"
