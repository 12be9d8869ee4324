"""From a configuration node to the object that it describes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException

from bitladder.errors import RunError, UserError

REFUSALS = (
    *(InstantiationException, MisconfigurationException, TypeError, ValueError),
    *(ArithmeticError, MemoryError, RuntimeError),  # a size of 10**12, a factor of 0
)
"""What a target raises that cannot do with its arguments."""


def instantiate(node: dict[str, Any], where: str, /, **supplied: Any) -> Any:
    """Build what a node's ``_target_`` names.

    Args:
        node: The node; nested nodes are built first, lists and dicts arrive as such.
        where: The node's place in the configuration, for messages: ``callbacks.checkpoint``.
        supplied: Arguments that the program passes beside the node's. They reach the target as
            they are, and win over the node's.

    Returns:
        The object; for a node with ``_partial_: true`` a function that takes what is left and
        gives the object.

    Raises:
        UserError: If the target refuses its arguments; of a partial node, when it is called.
    """
    place = f"{where} ({node['_target_']})"
    # Supplied objects go past OmegaConf, which would copy containers and refuse foreign types.
    build = _call(place, partial(hydra_instantiate, {**node, "_partial_": True}, _convert_="all"))
    call = partial(_call, place, build, **supplied)
    return call if node.get("_partial_") else call()


def _call(place: str, build: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    try:
        return build(*args, **kwargs)
    except REFUSALS as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if isinstance(cause, UserError | RunError):
            raise cause from error
        raise UserError(f"{place}: {_reason(cause or error)}") from error


def _reason(error: BaseException) -> str:
    """What it says; of PyTorch's own the first line, without the frames in C++."""
    said = str(error).strip()
    return (said.partition("\n")[0] if isinstance(error, RuntimeError) else said) or repr(error)
