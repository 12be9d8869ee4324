"""Why a module cannot be exported: which line of which module, and what gets past it."""

import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import SymInt, nn
from torch.overrides import TorchFunctionMode

from bitladder.quantization.layers import QuantizedLayer
from bitladder.quantization.reference import ReferenceLayer
from bitladder.quantization.trees import tensors
from bitladder.quantization.watch import Call, capture_calls

Attempt = Callable[[nn.Module, Sequence[Call]], Any]
"""Exports a module, or raises."""

TRIED = 3
"""How many parts of a model are tried before none is proposed."""


def why_not_exported(
    model: nn.Module, calls: Sequence[Call], error: Exception, attempt: Attempt, target: str
) -> str:
    """One line that names the module and the line, and what gets past them.

    A layer that ``skip`` leaves in float is in the graph as any other, so it helps only where the
    integer layer itself is what fails. Otherwise the module must be left outside of the target; a
    part of the model that then remains is proposed after it was exported.

    Args:
        model: The module that could not be exported.
        calls: The calls that were given.
        error: What the exporter raised.
        attempt: Exports a module.
        target: The name of ``model`` in what it is a part of, empty if it is all.
    """
    if _innermost(model, error)[1] is None:
        error = _fixed_size(model, calls, attempt) or error
    name, line = _innermost(model, error)
    message = next((line for line in str(error).splitlines() if line.strip()), "")
    what = f"{type(error).__name__}: {message.strip()}"
    module = f"module {name}" if name else type(model).__name__
    said = f"{line}, in {module} ({what})" if line else f"{what}, in {module}"
    said = f"the model cannot be exported: {said}"
    if name and isinstance(model.get_submodule(name), ReferenceLayer):
        return f"{said}; leave the layer in float with quantization.skip=[{name}]"
    return f"{said}; {_remedy(model, calls, name, attempt, target)}"


def _remedy(
    model: nn.Module, calls: Sequence[Call], failing: str, attempt: Attempt, target: str
) -> str:
    """What to write instead: another line, or another target if there is one that exports."""
    prefix = f"{target}." if target else ""
    for name in _others(model, failing)[:TRIED]:
        part = model.get_submodule(name)
        try:
            with torch.no_grad(), capture_calls(part) as seen:
                model(*calls[0].args, **calls[0].kwargs)
            attempt(part, seen)
        except Exception:  # whatever the model's own code raises
            continue
        return (
            "change that line, or quantize a part without it:"
            f" quantization.target={prefix}{name} can be exported; quantization.skip does not help,"
            " a float layer is exported too"
        )
    return "change that line; quantization.skip does not help, a float layer is exported too"


def _others(model: nn.Module, failing: str) -> list[str]:
    """Modules that hold quantized layers and not the failing module's own code, largest first."""
    path = failing.split(".") if failing else []
    found = []
    for depth in range(len(path) + 1):
        parent = ".".join(path[:depth])
        for child, module in model.get_submodule(parent).named_children():
            inside = depth < len(path) and child == path[depth]
            layers = [x for x in module.modules() if isinstance(x, QuantizedLayer | ReferenceLayer)]
            if layers and not inside:
                size = sum(x.weight.numel() for x in layers)
                found.append((size, f"{parent}.{child}".lstrip(".")))
    return [name for _, name in sorted(found, key=lambda part: -part[0])]


def _innermost(model: nn.Module, error: Exception) -> tuple[str, str | None]:
    """The innermost module of ``model`` in a traceback, and the innermost line of the user's."""
    names: Mapping[int, str] = {id(module): name for name, module in model.named_modules()}
    name, line = "", None
    for frame, number in traceback.walk_tb(error.__traceback__):
        name = names.get(id(frame.f_locals.get("self")), name)
        file = frame.f_code.co_filename
        if _is_users(file):
            (summary,) = traceback.StackSummary.extract([(frame, number)])
            line = f"{file}:{number}: {summary.line}"
    return name, line


class FixedSizeError(Exception):
    """The code computes with a size of the example that must stay free."""


class _StopWhereFixed(TorchFunctionMode):
    """Raises behind the first function after which a free size of the input is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, SymInt]] = []

    def keep(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the free sizes that a module is called with, each with its dimension."""
        shapes = [x.shape for x in tensors((args, kwargs))]
        self.sizes = [
            (d, size) for x in shapes for d, size in enumerate(x) if isinstance(size, SymInt)
        ]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for dimension, size in self.sizes:
            if size.node.expr.is_number:
                self.sizes = []  # what clean-up calls must not raise again
                what = f"dimension {dimension}" if dimension else "the batch size"
                raise FixedSizeError(f"from here on {what} can only be {size.node.expr}")
        return result


def _fixed_size(model: nn.Module, calls: Sequence[Call], attempt: Attempt) -> Exception | None:
    """The error raised where a size that must stay free was fixed, if that is what was wrong."""
    stop = _StopWhereFixed()
    hook = model.register_forward_pre_hook(stop.keep, with_kwargs=True, prepend=True)
    try:
        with stop:
            attempt(model, calls)
    except FixedSizeError as error:
        return error
    except Exception:  # the same as before, without a line
        return None
    finally:
        hook.remove()
    return None


def _is_users(filename: str) -> bool:
    """Whether a source file is the user's: not PyTorch's, not Python's, not of this package."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")
    standard = filename.startswith(sysconfig.get_path("stdlib")) and "site-packages" not in filename
    return not (filename.startswith(ours) or standard)
