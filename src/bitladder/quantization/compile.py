"""From a module to one file that PyTorch alone loads and runs."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._inductor import config as inductor_config
from torch._inductor.exc import InductorError
from torch.export import ExportedProgram

from bitladder.durable import move_into_place
from bitladder.errors import RunError, UserError
from bitladder.quantization.compiler_flags import contraction_flags, runtime_flags
from bitladder.quantization.example import example_call
from bitladder.quantization.export_failure import why_not_exported
from bitladder.quantization.hoist import hoist_rounding
from bitladder.quantization.kernels import Int8Kernels
from bitladder.quantization.leftovers import forget_shapes, sources_forgotten
from bitladder.quantization.package import slim
from bitladder.quantization.signature import inputs_of, to_text
from bitladder.quantization.trees import plain
from bitladder.quantization.watch import Call

_INDUCTOR_OPTIONS: dict[str, Any] = {
    "fx_graph_cache": False,
    # Neither debug symbols nor frame pointers serve whoever loads the file; they double its size.
    "aot_inductor.enable_line_tables": False,
    "aot_inductor.enable_frame_pointer": False,
    # Who asks a package to check its inputs may still give it a batch of one.
    "aot_inductor.check_lowerbound": False,
}


@sources_forgotten()
def trace(model: nn.Module, calls: Sequence[Call], *, target: str = "") -> ExportedProgram:
    """Export a module with a free batch size, its outputs in plain containers.

    Args:
        model: The module, in eval mode.
        calls: Arguments of real passes. Dimension 0 of every tensor that has the batch's size is
            free, and every other dimension that is not the same in all calls. One of the calls,
            the example, must have at least two of each: two samples, two tokens; a batch of one
            sample counts as two of it.
        target: The module's name in what it is a part of, for the error.

    Raises:
        UserError: If the module cannot be exported; names the module and the line inside it, and
            what gets past them.
    """
    assert not any(module.training for module in model.modules()), "export wants eval mode"
    try:
        return _export(model, calls)
    except UserError:
        raise
    except Exception as error:  # torch.export raises whatever the model's own code raises
        raise UserError(why_not_exported(model, calls, error, _export, target)) from error


def _export(model: nn.Module, calls: Sequence[Call]) -> ExportedProgram:
    hook = model.register_forward_hook(lambda module, args, output: plain(output))
    try:
        # Where it fails, PyTorch prints the whole graph on its way to the error.
        with quiet(), redirect_stderr(StringIO()), torch.no_grad():
            example, free = example_call(model, calls)
            program = torch.export.export(model, example.args, example.kwargs, dynamic_shapes=free)
    finally:
        hook.remove()
    forget_shapes(program)
    return program


@sources_forgotten()
def compile_package(model: nn.Module, calls: Sequence[Call], path: Path) -> Int8Kernels:
    """Compile a module for the CPU with AOTInductor and write the package.

    Args:
        model: The module, in eval mode on the CPU: a float model, or what
            :func:`bitladder.quantization.convert` gave.
        calls: Arguments of real passes, as for :func:`trace`.
        path: The file to write, ``*.pt2``; written whole or not at all.

    Returns:
        Which int8 kernels Inductor chose.

    Raises:
        UserError: If the module cannot be exported.
        RunError: If it cannot be compiled.
    """
    program = trace(model, calls)
    hoist_rounding(program.graph)
    program.graph_module.recompile()
    kernels = Int8Kernels()
    options = {
        "freezing": True,
        "post_grad_custom_pre_pass": kernels.collect,
        "post_grad_custom_post_pass": kernels.protect,
    }
    write_package(program, path, options)
    return kernels


def write_package(program: ExportedProgram, path: Path, options: dict[str, Any]) -> None:
    """Compile a program with AOTInductor, for the device it is on, and write the package.

    Args:
        program: What :func:`trace` gave.
        path: The file to write, ``*.pt2``; written whole or not at all.
        options: Inductor's, beside those of every package.

    Raises:
        RunError: If it cannot be compiled.
    """
    inputs = {"aot_inductor.metadata": {"inputs": to_text(inputs_of(program))}}
    # Into memory first: where PyTorch's own writer meets a full disk it ends the process.
    content = BytesIO()
    # Inductor freezes weights, and so chooses int8 kernels, only where gradients are off.
    with quiet(), torch.no_grad(), inductor_config.patch(_options() | inputs | options):
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=content)
        except InductorError as error:
            raise RunError(f"the model could not be compiled: {_reason(error)}") from error
    forget_shapes(program)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compile-") as scratch:
        built = Path(scratch) / path.name
        built.write_bytes(content.getbuffer())
        slim(built)
        move_into_place(built, path)


def load_package(path: Path) -> Any:
    """Load a package: a callable with the module's signature, fp32 on the CPU."""
    with quiet():
        return torch._inductor.aoti_load_package(str(path))


def _options() -> dict[str, Any]:
    """Options of every package, as far as this version of PyTorch knows them."""
    options = _INDUCTOR_OPTIONS | {
        # Inductor passes both on to the compiler as they are: the optimization level of the code
        # around the kernels, and the floating-point contraction of all.
        "aot_inductor.compile_wrapper_opt_level": runtime_flags(),
        "cpp.enable_floating_point_contract_flag": contraction_flags(),
    }
    known = inductor_config.get_config_copy()
    return {name: value for name, value in options.items() if name in known}


def _reason(error: InductorError) -> str:
    """What the C++ compiler called an error, or else the first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[0] if lines else "no reason")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the compiler's own chatter from the user's terminal; errors still raise."""
    loggers = [
        logging.getLogger(name)
        for name in ("torch._inductor", "torch.export", "torch._dynamo", "torch.onnx", "torch.fx")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
